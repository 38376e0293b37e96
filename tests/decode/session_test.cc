// Sessions: what extends, rolls back, survives a failure, and what is refused.
#include <outrigger/session.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include <unistd.h>

#include "tests/support/engines.h"

namespace outrigger::testing {
namespace {

Model tiny(const char* name = "tied-q4_1") { return must(Model::open(tiny_model_path(name))); }

std::vector<Token> some_tokens(size_t count, uint32_t seed = 1) {
  std::vector<Token> tokens;
  for (size_t i = 0; i < count; ++i) tokens.push_back(static_cast<Token>((seed = seed * 1664525 + 1013904223) >> 8) % 261);
  return tokens;
}

std::vector<float> logits_of(const Session& session) { return {session.logits().begin(), session.logits().end()}; }

std::vector<Token> greedy(Session& session, std::span<const Token> prompt, uint32_t count) {
  GenerateOptions options;
  options.max_tokens = count;
  options.ignore_eos = true;
  return must(session.generate(prompt, options)).tokens;
}

TEST_CASE("Session: the same tokens give the same logits in one call, in chunks and one by one") {
  const std::vector<Token> tokens = some_tokens(77);
  for (const char* name : {"odd-f32", "tied-q4_1", "llama3-mixed", "linear-f16", "q8_0-one-layer", "llama-biases", "qwen2", "qwen3-yarn"}) {
    CAPTURE(name);
    const Model model = tiny(name);
    const Engine engine = open_engine(model);
    Session whole = must(Session::open(engine));
    must(whole.prefill(tokens));
    const std::vector<float> expected = logits_of(whole);
    REQUIRE(expected.size() == model.info().vocabulary_tokens);
    must(whole.truncate(0));  // gives the cache's place to nobody, but the session can be used again
    for (const size_t chunk : {1, 7, 64}) {
      must(whole.truncate(0));
      for (size_t i = 0; i < tokens.size(); i += chunk)
        must(whole.prefill(std::span(tokens).subspan(i, std::min(chunk, tokens.size() - i))));
      CHECK(logits_of(whole) == expected);
    }
  }
}

TEST_CASE("Session: bits do not depend on budget or threads") {
  const std::vector<Token> tokens = some_tokens(50);
  for (const char* name : {"odd-f32", "tied-q4_1", "llama3-mixed", "linear-f16", "q8_0-one-layer", "llama-biases", "qwen2", "qwen3-yarn"}) {
    const Model model = tiny(name);
    Session unlimited = must(Session::open(open_engine(model)));
    must(unlimited.prefill(tokens));
    const std::vector<Token> text = greedy(unlimited, some_tokens(3, 9), 20);
    const uint64_t least = smallest_budget(model, {});
    for (const uint64_t budget : {least, least + 20000, least + 60000}) {
      for (const uint32_t threads : {1u, 2u, 3u}) {
        CAPTURE(name, budget, threads);
        EngineSetup setup{.host_bytes = budget, .threads = threads};
        if (!plan_for(model, setup).is_ok()) continue;  // three threads need more scratch than the smallest budget for two
        const Engine engine = open_engine(model, setup);
        Session session = must(Session::open(engine));
        must(session.prefill(tokens));
        CHECK(greedy(session, some_tokens(3, 9), 20) == text);
        CHECK(engine.memory().host.peak_bytes <= budget);
      }
    }
  }
}

TEST_CASE("Session: evaluate gives each token's logits, equal to those of stepping") {
  const std::vector<Token> tokens = some_tokens(21);
  const Engine engine = open_engine(tiny(), {.batch = 2});
  Session stepping = must(Session::open(engine)), evaluating = must(Session::open(engine));
  std::vector<std::vector<float>> expected, got;
  for (const Token token : tokens) {
    must(stepping.step(token));
    expected.push_back(logits_of(stepping));
  }
  must(evaluating.evaluate(tokens, [&](size_t index, std::span<const float> logits) {
    CHECK(index == got.size());
    got.emplace_back(logits.begin(), logits.end());
  }));
  CHECK(got == expected);
  CHECK(logits_of(evaluating) == expected.back());
}

TEST_CASE("Session: truncate forgets, and what follows is as if it had never been") {
  const std::vector<Token> tokens = some_tokens(40);
  const Engine engine = open_engine(tiny(), {.batch = 2});
  Session straight = must(Session::open(engine)), detour = must(Session::open(engine));
  must(straight.prefill(tokens));
  must(detour.prefill(std::span(tokens).first(19)));
  must(detour.prefill(some_tokens(30, 5)));
  must(detour.truncate(19));
  CHECK(detour.logits().empty());
  must(detour.prefill(std::span(tokens).subspan(19)));
  CHECK(logits_of(detour) == logits_of(straight));
  CHECK(detour.truncate(41).code() == StatusCode::kInvalidArgument);
}

TEST_CASE("Session: a fork goes its own way") {
  const Engine engine = open_engine(tiny(), {.batch = 2});
  Session first = must(Session::open(engine));
  must(first.prefill(some_tokens(17)));
  Session second = must(first.fork());
  CHECK(logits_of(second) == logits_of(first));
  const std::vector<Token> a = greedy(first, some_tokens(2, 3), 12);
  CHECK(greedy(second, some_tokens(2, 3), 12) == a);
  must(second.step(4));
  CHECK(first.tokens().size() + 1 == second.tokens().size());
}

TEST_CASE("Session: a third session beyond the plan's batch is refused, and a closed one makes room") {
  const Engine engine = open_engine(tiny(), {.batch = 2});
  Session first = must(Session::open(engine));
  {
    Session second = must(Session::open(engine));
    const Status refused = Session::open(engine).status();
    CHECK(refused.code() == StatusCode::kBudget);
    CHECK(refused.needed_bytes() > refused.given_bytes());
    CHECK(first.fork().status().code() == StatusCode::kBudget);
  }
  must(Session::open(engine).status());
}

TEST_CASE("Session: saved and restored state continues with the same text, also in another engine with another budget") {
  const Model model = tiny();
  const Engine engine = open_engine(model);
  Session session = must(Session::open(engine));
  must(session.prefill(some_tokens(33)));
  const std::vector<std::byte> state = must(session.save());
  const std::vector<Token> text = greedy(session, some_tokens(1, 8), 15);
  Session other = must(Session::open(open_engine(model, {.host_bytes = smallest_budget(model, {})})));
  must(other.restore(state));
  CHECK(other.tokens().size() == 33);
  CHECK(greedy(other, some_tokens(1, 8), 15) == text);
}

TEST_CASE("Session: keys and values as q8_0 are truncated, forked, saved and restored like others, and chunks change nothing") {
  const Model model = tiny("q8_0-one-layer");
  const Engine engine = open_engine(model, {.batch = 3, .kv_type = KvType::kQ8_0});
  const std::vector<Token> tokens = some_tokens(77);
  Session straight = must(Session::open(engine)), detour = must(Session::open(engine));
  must(straight.prefill(tokens));
  for (const Token token : std::span(tokens).first(19)) must(detour.step(token));
  must(detour.prefill(some_tokens(30, 5)));
  must(detour.truncate(19));
  must(detour.prefill(std::span(tokens).subspan(19)));
  CHECK(logits_of(detour) == logits_of(straight));

  const std::vector<std::byte> state = must(straight.save());
  Session copy = must(straight.fork());
  const std::vector<Token> text = greedy(straight, some_tokens(1, 8), 15);
  CHECK(greedy(copy, some_tokens(1, 8), 15) == text);
  must(detour.restore(state));
  CHECK(greedy(detour, some_tokens(1, 8), 15) == text);

  // The cache is what the plan says, and a state of another type is refused.
  const EngineSetup halves{.batch = 3};
  CHECK(engine.plan().host.breakdown.kv_cache < must(plan_for(model, halves)).host.breakdown.kv_cache * 2 / 3);
  Session other = must(Session::open(open_engine(model, halves)));
  CHECK(other.restore(state).code() == StatusCode::kInvalidArgument);
  must(other.prefill(tokens));
  CHECK(logits_of(other) != logits_of(copy));
}

TEST_CASE("Session: keys and values as q8_0 are refused for heads that are no multiple of 32 elements") {
  const Status refused = plan_for(tiny(), {.kv_type = KvType::kQ8_0}).status();
  CHECK(refused.code() == StatusCode::kInvalidArgument);
  CHECK(refused.message().find("multiple of 32") != std::string::npos);
}

TEST_CASE("Session: a saved state with a pending generated token continues too") {
  const Engine engine = open_engine(tiny(), {.batch = 2});
  Session session = must(Session::open(engine)), other = must(Session::open(engine));
  greedy(session, some_tokens(5), 6);
  must(other.restore(must(session.save())));
  CHECK(greedy(other, some_tokens(2), 6) == greedy(session, some_tokens(2), 6));
}

TEST_CASE("Session: a broken state changes nothing and says where it is broken") {
  const Engine engine = open_engine(tiny(), {.batch = 2});
  Session session = must(Session::open(engine)), other = must(Session::open(engine));
  must(session.prefill(some_tokens(9)));
  must(other.prefill(some_tokens(4, 7)));
  const std::vector<float> before = logits_of(other);
  const std::vector<std::byte> state = must(session.save());
  for (size_t at = 0; at < state.size(); at += at < 64 ? 1 : 997) {
    std::vector<std::byte> broken = state;
    broken[at] ^= std::byte{0x40};
    const StatusCode code = other.restore(broken).code();
    CAPTURE(at, static_cast<int>(code));
    CHECK((code == StatusCode::kCorruptFile || code == StatusCode::kInvalidArgument));
  }
  for (const size_t length : {size_t{0}, size_t{7}, size_t{39}, state.size() - 1})
    CHECK(!other.restore(std::span(state).first(length)).is_ok());
  CHECK(logits_of(other) == before);
  CHECK(other.tokens().size() == 4);

  Session of_other_model = must(Session::open(open_engine(tiny("odd-f32"))));
  CHECK(of_other_model.restore(state).code() == StatusCode::kInvalidArgument);
}

TEST_CASE("Session: a state file appears complete or not at all") {
  const std::filesystem::path folder = std::filesystem::temp_directory_path() / ("otr-session-" + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  Session session = must(Session::open(open_engine(tiny())));
  must(session.prefill(some_tokens(9)));
  const std::string path = (folder / "talk.state").string();
  must(session.save_file(path));
  const std::vector<float> logits = logits_of(session);
  must(session.truncate(0));
  must(session.restore_file(path));
  CHECK(logits_of(session) == logits);
  CHECK(session.save_file((folder / "no" / "such").string()).code() == StatusCode::kIo);
  CHECK(session.restore_file((folder / "absent").string()).code() == StatusCode::kNotFound);
  CHECK(std::distance(std::filesystem::directory_iterator(folder), {}) == 1);
  std::filesystem::remove_all(folder);
}

TEST_CASE("Session: bad calls are refused and change nothing") {
  const Engine engine = open_engine(tiny(), {.context_tokens = 32});
  Session session = must(Session::open(engine));
  CHECK(session.prefill({}).code() == StatusCode::kInvalidArgument);
  CHECK(session.step(-1).code() == StatusCode::kInvalidArgument);
  CHECK(session.step(261).code() == StatusCode::kInvalidArgument);
  CHECK(session.logits().empty());
  must(session.prefill(some_tokens(30)));
  CHECK(session.prefill(some_tokens(3)).code() == StatusCode::kInvalidArgument);
  CHECK(session.tokens().size() == 30);
  must(session.prefill(some_tokens(2)));
  CHECK(session.step(1).code() == StatusCode::kInvalidArgument);
  CHECK(Session::open(engine, {33}).status().code() == StatusCode::kInvalidArgument);
}

TEST_CASE("Session: generation ends at the context's end with reason length") {
  Session session = must(Session::open(open_engine(tiny(), {.context_tokens = 32})));
  GenerateOptions options;
  options.max_tokens = 1000;
  options.ignore_eos = true;
  const GenerateResult result = must(session.generate(some_tokens(10), options));
  CHECK(result.stop_reason == StopReason::kLength);
  CHECK(result.tokens.size() == 22);
}

TEST_CASE("Session: the callback and the cancel token stop generation with the tokens so far") {
  const Engine engine = open_engine(tiny());
  Session session = must(Session::open(engine));
  GenerateOptions options;
  options.max_tokens = 50;
  options.ignore_eos = true;
  int calls = 0;
  options.on_token = [&](const GeneratedToken&) { return ++calls < 5; };
  GenerateResult result = must(session.generate(some_tokens(4), options));
  CHECK(result.stop_reason == StopReason::kCancelled);
  CHECK(result.tokens.size() == 5);

  options.on_token = {};
  options.cancel.cancel();
  result = must(session.generate(some_tokens(4), options));
  CHECK(result.stop_reason == StopReason::kCancelled);
  CHECK(result.tokens.empty());
}

TEST_CASE("Session: cancelled from another thread at any moment, it goes on from its last complete token") {
  const Model model = tiny();
  const Engine engine = open_engine(model, {.host_bytes = smallest_budget(model, {.batch = 2}), .batch = 2});
  Session session = must(Session::open(engine)), control = must(Session::open(engine));
  const int rounds = std::getenv("OUTRIGGER_LONG_TESTS") ? 1000 : 60;
  for (int round = 0; round < rounds; ++round) {
    must(session.truncate(0));
    must(control.truncate(0));
    GenerateOptions options;
    options.max_tokens = 60;
    options.ignore_eos = true;
    const CancelToken cancel = options.cancel;
    std::thread other([cancel, round] {
      std::this_thread::sleep_for(std::chrono::microseconds(round % 60 * 150 + round / 60));
      cancel.cancel();
    });
    const GenerateResult result = must(session.generate(some_tokens(20), options));
    other.join();
    CHECK((result.stop_reason == StopReason::kCancelled || result.stop_reason == StopReason::kLength));
    const std::vector<Token> held(session.tokens().begin(), session.tokens().end());
    if (held.empty()) continue;
    must(control.prefill(held));
    CHECK(greedy(session, some_tokens(1, 3), 4) == greedy(control, some_tokens(1, 3), 4));
  }
}

TEST_CASE("Session: a second thread's call into a busy session is refused") {
  Session session = must(Session::open(open_engine(tiny())));
  GenerateOptions options;
  options.max_tokens = 3;
  options.ignore_eos = true;
  StatusCode seen = StatusCode::kOk;
  options.on_token = [&](const GeneratedToken&) {
    std::thread([&] { seen = session.step(1).code(); }).join();
    return true;
  };
  must(session.generate(some_tokens(4), options).status());
  CHECK(seen == StatusCode::kInvalidArgument);
}

TEST_CASE("Session: two sessions on two threads say what each says alone") {
  const Engine engine = open_engine(tiny(), {.batch = 2});
  Session a = must(Session::open(engine)), b = must(Session::open(engine));
  const std::vector<Token> alone_a = greedy(a, some_tokens(11, 1), 40), alone_b = greedy(b, some_tokens(13, 2), 40);
  must(a.truncate(0));
  must(b.truncate(0));
  std::vector<Token> together_b;
  std::thread other([&] {
    GenerateOptions options;
    options.max_tokens = 40;
    options.ignore_eos = true;
    Result<GenerateResult> result = b.generate(some_tokens(13, 2), options);
    if (result.is_ok()) together_b = result->tokens;
  });
  const std::vector<Token> together_a = greedy(a, some_tokens(11, 1), 40);
  other.join();
  CHECK(together_a == alone_a);
  CHECK(together_b == alone_b);
}

TEST_CASE("Session: stop texts end the text before them, wherever tokens break") {
  const Engine engine = open_engine(tiny());
  Session session = must(Session::open(engine));
  GenerateOptions options;
  options.max_tokens = 40;
  options.ignore_eos = true;
  const std::string text = must(session.generate(some_tokens(6), options)).text;
  REQUIRE(text.size() > 10);
  options.stop = {text.substr(5, 4)};
  must(session.truncate(0));
  std::string streamed;
  options.on_token = [&](const GeneratedToken& token) { return streamed += token.text, true; };
  const GenerateResult stopped = must(session.generate(some_tokens(6), options));
  CHECK(stopped.stop_reason == StopReason::kStop);
  CHECK(stopped.text == text.substr(0, text.find(options.stop[0])));
  CHECK(streamed == stopped.text);
}

}  // namespace
}  // namespace outrigger::testing
