// Sessions whose keys and values are on disk: what they say is what they say with everything in memory, bit for bit.
#include <outrigger/session.h>

#include <algorithm>
#include <filesystem>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "src/plan/kv_spill_model.h"
#include "tests/support/allocations.h"
#include "tests/support/deep_model.h"
#include "tests/support/scratch_folder.h"

namespace outrigger::testing {
namespace {

/// A model in memory, with the bytes that it is made from.
struct Deep {
  Deep(const char* name, uint32_t layers, uint32_t context_tokens = 256)
      : bytes(deep_model(name, layers, context_tokens)), model(must(Model::open_memory(bytes))) {}
  std::vector<std::byte> bytes;
  Model model;
};

std::vector<Token> some_tokens(const Model& model, size_t count, uint32_t seed = 1) {
  std::vector<Token> tokens;
  for (size_t i = 0; i < count; ++i)
    tokens.push_back(static_cast<Token>(((seed = seed * 1664525 + 1013904223) >> 8) % model.info().vocabulary_tokens));
  return tokens;
}

std::vector<Token> continued(Session& session, std::span<const Token> prompt, uint32_t count) {
  GenerateOptions options;
  options.max_tokens = count;
  options.ignore_eos = true;
  return must(session.generate(prompt, options)).tokens;
}

/// Everything that a session says: the logits after each token of a prompt that comes in chunks of several sizes, and a text, and what is
/// saved of it.
struct Said {
  std::vector<float> logits;
  std::vector<Token> text;
  std::vector<std::byte> state;
  bool operator==(const Said&) const = default;
};

Said said(const Engine& engine, std::span<const Token> prompt, uint32_t new_tokens) {
  Session session = must(Session::open(engine));
  Said said;
  size_t chunk = 1;
  for (; !prompt.empty(); chunk = chunk * 3 % 37 + 1) {
    const auto now = prompt.first(std::min(chunk, prompt.size()));
    must(session.evaluate(
        now, [&](size_t, std::span<const float> logits) { said.logits.insert(said.logits.end(), logits.begin(), logits.end()); }));
    prompt = prompt.subspan(now.size());
  }
  const std::vector<Token> one{1};
  said.text = continued(session, one, new_tokens);
  said.state = must(session.save());
  return said;
}

void check_memory(const Engine& engine) {
  const TierUse use = engine.memory().host;
  CHECK(use.peak_bytes <= use.planned_bytes);
  CHECK((use.budget_bytes == 0 || use.planned_bytes <= use.budget_bytes));
  CHECK(use.current.kv_cache <= engine.plan().host.breakdown.kv_cache);
}

TEST_CASE("Spilled keys and values: logits, text and saved state are those of memory, whatever is spilled, in every type and context") {
  struct Kind {
    const char* name;
    KvType type;
  };
  for (const auto& [name, type] : {Kind{"tied-q4_1", KvType::kF16},
                                   {"odd-f32", KvType::kF16},
                                   {"llama3-mixed", KvType::kF32},
                                   {"smollm", KvType::kQ8_0},
                                   {"mixtral", KvType::kF16}}) {
    const Deep deep(name, 7);
    for (const uint32_t context : {33u, 100u, 251u}) {
      EngineSetup setup{.context_tokens = context, .kv_type = type, .kv_spilled_layers = 0};
      const std::vector<Token> prompt = some_tokens(deep.model, context * 2 / 3, context);
      const uint32_t new_tokens = context / 4;
      const Said expected = said(open_engine(deep.model, setup), prompt, new_tokens);
      for (const uint32_t spilled : {1u, 2u, 3u, 7u}) {
        CAPTURE(name, context, spilled);
        setup.kv_spilled_layers = spilled;
        const Engine engine = open_engine(deep.model, setup);
        REQUIRE(engine.plan().kv_spilled_layers == spilled);
        CHECK(said(engine, prompt, new_tokens) == expected);
        CHECK(engine.streamed().kv_read_bytes > 0);
        CHECK(engine.streamed().kv_written_bytes > 0);
        check_memory(engine);
      }
    }
  }
}

TEST_CASE("Spilled keys and values: at the smallest budget, where weights and experts stream as well, nothing changes") {
  for (const char* name : {"tied-q4_1", "llama3-mixed", "mixtral"}) {
    const Deep deep(name, 8);
    EngineSetup setup{.context_tokens = 200};
    const std::vector<Token> prompt = some_tokens(deep.model, 40);
    const Said expected = said(open_engine(deep.model, setup), prompt, 6);
    const uint64_t least = smallest_budget(deep.model, setup);
    setup.kv_spilled_layers = 0;
    CHECK(smallest_budget(deep.model, setup) > least);
    setup.kv_spilled_layers = Workload::kAsItPays;
    for (const uint64_t more : {0, 20'000}) {
      CAPTURE(name, more);
      setup.host_bytes = least + more;
      const Engine engine = open_engine(deep.model, setup);
      if (more == 0) REQUIRE(engine.plan().kv_spilled_layers == 8);
      if (more == 0) REQUIRE((engine.plan().stream_slots > 0 || engine.plan().expert_slots > 0));
      CHECK(said(engine, prompt, 6) == expected);
      check_memory(engine);
      CHECK(engine.memory().host.current_bytes <= least + more);
    }
  }
}

TEST_CASE(
    "Spilled keys and values: of a long context a step reads what is before it and writes what it adds, to the byte that the plan tells") {
  for (const auto& [type, context] : {std::pair{KvType::kF16, 16384u}, {KvType::kQ8_0, 16000u}, {KvType::kF32, 9000u}}) {
    const Deep deep("smollm", 5, 16384);
    EngineSetup setup{.context_tokens = context, .kv_type = type, .kv_spilled_layers = 0};
    const std::vector<Token> prompt = some_tokens(deep.model, 1900);
    const Said expected = said(open_engine(deep.model, setup), prompt, 20);
    setup.kv_spilled_layers = 4;
    const Engine engine = open_engine(deep.model, setup);
    CHECK(said(engine, prompt, 20) == expected);
    const StepShape shape = must(deep.model.step_shape());
    const Demand demand{2, 1, context, 8, type, 4};
    // Far from the end each run is a request of its own.
    REQUIRE(!kv_spill_shape(shape, type, context).runs.moves_as_one(kv_spill_shape(shape, type, context).extent(2000, 1).prefix));
    Session session = must(Session::open(engine));
    must(session.prefill(prompt));
    for (uint32_t position = 1900; position < 1935; ++position) {
      const StreamReport before = engine.streamed();
      must(session.step(5));
      const StreamReport after = engine.streamed();
      const uint64_t moved = after.kv_read_bytes + after.kv_written_bytes - before.kv_read_bytes - before.kv_written_bytes;
      REQUIRE(moved == kv_disk_bytes(shape, demand, position, 1));
      REQUIRE(moved < engine.plan().kv_spill_bytes);
    }
    check_memory(engine);
  }
}

TEST_CASE("Spilled keys and values: a session forks, is saved, restored and truncated as in memory, also from one place to the other") {
  const Deep deep("tied-q4_1", 6);
  const std::vector<Token> prompt = some_tokens(deep.model, 61), more = some_tokens(deep.model, 9, 7);
  const EngineSetup in_memory{.batch = 2, .kv_spilled_layers = 0}, on_disk{.batch = 2, .kv_spilled_layers = 4},
      all_on_disk{.batch = 2, .kv_spilled_layers = 6};
  Session reference = must(Session::open(open_engine(deep.model, in_memory)));
  must(reference.prefill(prompt));
  const std::vector<std::byte> state = must(reference.save());
  const std::vector<Token> text = continued(reference, more, 30);
  for (const EngineSetup& setup : {on_disk, all_on_disk}) {
    const Engine engine = open_engine(deep.model, setup);
    Session session = must(Session::open(engine));
    must(session.prefill(prompt));
    CHECK(must(session.save()) == state);
    {
      Session fork = must(session.fork());
      CHECK(continued(fork, more, 30) == text);
      must(fork.truncate(17));
      must(fork.prefill(std::span(prompt).subspan(17)));
      CHECK(continued(fork, more, 30) == text);
    }
    Session restored = must(Session::open(engine));
    must(restored.prefill(some_tokens(deep.model, 100, 3)));
    must(restored.restore(state));
    CHECK(continued(restored, more, 30) == text);
    CHECK(continued(session, more, 30) == text);
    Session back = must(Session::open(open_engine(deep.model, in_memory)));
    must(session.truncate(61));
    must(back.restore(must(session.save())));
    CHECK(continued(back, more, 30) == text);
  }
}

TEST_CASE("Spilled keys and values: sessions that take turns, of several contexts, say what each says alone, and no one more is let in") {
  const Deep deep("llama3-mixed", 6);
  const Engine engine = open_engine(deep.model, {.context_tokens = 128, .batch = 2, .kv_spilled_layers = 5});
  std::vector<Session> sessions;
  std::vector<Session> alone;
  for (const uint32_t context : {128u, 64u, 60u}) {
    sessions.push_back(must(Session::open(engine, {context})));
    alone.push_back(must(Session::open(open_engine(deep.model, {.context_tokens = context, .kv_spilled_layers = 0}))));
  }
  const Status refused = Session::open(engine).status();
  CHECK(refused.code() == StatusCode::kBudget);
  CHECK(refused.needed_bytes() > refused.given_bytes());
  CHECK(sessions[0].fork().status().code() == StatusCode::kBudget);
  for (uint32_t turn = 0; turn < 6; ++turn) {
    for (size_t i = 0; i < sessions.size(); ++i) {
      const std::vector<Token> more = some_tokens(deep.model, 1 + (turn + i) % 4, static_cast<uint32_t>(turn * 3 + i));
      CAPTURE(turn, i);
      CHECK(continued(sessions[i], more, 4) == continued(alone[i], more, 4));
    }
  }
  check_memory(engine);
  sessions.erase(sessions.begin() + 1);
  sessions.push_back(must(Session::open(engine, {64})));  // into the gap
  Session fresh = must(Session::open(open_engine(deep.model, {.context_tokens = 64, .kv_spilled_layers = 0})));
  CHECK(continued(sessions.back(), some_tokens(deep.model, 20), 20) == continued(fresh, some_tokens(deep.model, 20), 20));
}

TEST_CASE("Spilled keys and values: two sessions on two threads say what each says alone") {
  const Deep deep("tied-q4_1", 5);
  const Engine engine = open_engine(deep.model, {.batch = 2, .kv_spilled_layers = 5});
  Session a = must(Session::open(engine)), b = must(Session::open(engine));
  const std::vector<Token> prompt_a = some_tokens(deep.model, 11, 1), prompt_b = some_tokens(deep.model, 13, 2);
  const std::vector<Token> alone_a = continued(a, prompt_a, 40), alone_b = continued(b, prompt_b, 40);
  must(a.truncate(0));
  must(b.truncate(0));
  std::vector<Token> together_b;
  std::thread other([&] {
    GenerateOptions options;
    options.max_tokens = 40;
    options.ignore_eos = true;
    for (int i = 0; i < 3; ++i) {
      if (!b.truncate(0).is_ok()) return;
      Result<GenerateResult> result = b.generate(prompt_b, options);
      if (result.is_ok()) together_b = result->tokens;
      if (!b.save().is_ok()) together_b.clear();
    }
  });
  const std::vector<Token> together_a = continued(a, prompt_a, 40);
  other.join();
  CHECK(together_a == alone_a);
  CHECK(together_b == alone_b);
}

TEST_CASE("Spilled keys and values: cancelled at many moments, the session goes on from its last complete token") {
  const Deep deep("tied-q4_1", 6);
  const Engine engine = open_engine(deep.model, {.batch = 2, .kv_spilled_layers = 6}),
               plain = open_engine(deep.model, {.kv_spilled_layers = 0});
  Session session = must(Session::open(engine)), control = must(Session::open(plain));
  std::mt19937 random(11);
  int cancelled = 0;
  for (int round = 0; round < 150; ++round) {
    must(session.truncate(0));
    must(control.truncate(0));
    GenerateOptions options;
    options.max_tokens = 60;
    options.ignore_eos = true;
    const CancelToken cancel = options.cancel;
    const auto delay = std::chrono::microseconds(random() % 12'000);
    std::thread other([cancel, delay] {
      std::this_thread::sleep_for(delay);
      cancel.cancel();
    });
    const GenerateResult result = must(session.generate(some_tokens(deep.model, 20), options));
    other.join();
    cancelled += result.stop_reason == StopReason::kCancelled;
    const std::vector<Token> held(session.tokens().begin(), session.tokens().end());
    if (held.empty()) continue;
    must(control.prefill(held));
    const std::vector<Token> one = some_tokens(deep.model, 1, 3);
    CAPTURE(round);
    REQUIRE(continued(session, one, 4) == continued(control, one, 4));
  }
  CHECK(cancelled > 10);
}

TEST_CASE("Spilled keys and values: a step allocates nothing") {
  const Deep deep("tied-q4_1", 5);
  const Engine engine = open_engine(deep.model, {.kv_spilled_layers = 5});
  Session session = must(Session::open(engine));
  must(session.prefill(some_tokens(deep.model, 30)));
  must(session.step(1));
  const std::vector<Token> more = some_tokens(deep.model, 20, 4);
  CHECK(allocations_of_steps(session, more) == 0);
}

TEST_CASE("Spilled keys and values: a plan with the same slots takes over open sessions, another one only where there are none") {
  const Deep deep("tied-q4_1", 6);
  const std::vector<Token> prompt = some_tokens(deep.model, 40), more = some_tokens(deep.model, 5, 2);
  Session reference = must(Session::open(open_engine(deep.model, {.kv_spilled_layers = 0})));
  must(reference.prefill(prompt));
  const auto plan = [&](uint32_t spilled, uint64_t more_bytes, uint32_t context = 256) {
    EngineSetup setup{.context_tokens = context, .kv_spilled_layers = spilled};
    setup.host_bytes = smallest_budget(deep.model, setup) + more_bytes;
    return must(plan_for(deep.model, setup));
  };
  Engine engine = open_engine(deep.model, {.kv_spilled_layers = 4});
  uint64_t read_before = 0;
  {
    Session session = must(Session::open(engine));
    must(session.prefill(prompt));
    for (const uint64_t more_bytes : {0, 100'000, 5'000}) {
      must(engine.replan(plan(4, more_bytes)));
      CHECK(continued(session, more, 6) == continued(reference, more, 6));
      CHECK(engine.memory().host.current_bytes == engine.memory().host.planned_bytes);
    }
    read_before = engine.streamed().kv_read_bytes;
    CHECK(read_before > 0);
    for (const Plan& other : {plan(0, 0), plan(3, 0), plan(4, 0, 128)}) {
      const Status status = engine.replan(other);
      CHECK(status.code() == StatusCode::kInvalidArgument);
      CHECK(status.message().find("on disk") != std::string::npos);
    }
    CHECK(continued(session, more, 6) == continued(reference, more, 6));
  }
  for (const uint32_t spilled : {0u, 6u, 3u}) {
    must(engine.replan(plan(spilled, 0)));
    Session session = must(Session::open(engine));
    must(reference.truncate(0));
    CHECK(continued(session, prompt, 12) == continued(reference, prompt, 12));
    CHECK(engine.memory().host.current_bytes == engine.memory().host.planned_bytes);
  }
  CHECK(engine.streamed().kv_read_bytes > read_before);
  Session held = must(Session::open(engine));
  must(held.prefill(prompt));
  CHECK(engine.replan(plan(0, 0)).code() == StatusCode::kInvalidArgument);
}

TEST_CASE("Spilled keys and values: a trace has each fetch and store with its bytes") {
  const ScratchFolder folder;
  const Deep deep("tied-q4_1", 5);
  EngineOptions options;
  options.trace_events = 10000;
  const Engine engine = must(Engine::open(deep.model, must(plan_for(deep.model, {.kv_spilled_layers = 3})), options));
  Session session = must(Session::open(engine));
  must(session.prefill(some_tokens(deep.model, 50)));
  for (Token token = 0; token < 4; ++token) must(session.step(token));
  must(engine.write_trace(folder / "trace.json"));
  std::ifstream file(folder / "trace.json");
  uint64_t read = 0, written = 0, fetches = 0, stores = 0;
  const nlohmann::json trace = nlohmann::json::parse(file);
  for (const nlohmann::json& event : trace["traceEvents"]) {
    const std::string name = event["name"];
    const uint64_t bytes = event["args"].value("bytes", uint64_t{0});
    if (name.find("fetch kv") != std::string::npos) ++fetches, read += bytes;
    if (name.find("store kv") != std::string::npos) ++stores, written += bytes;
    if (name == "blk.4 store kv") CHECK(event["args"]["layer"] == 4);
  }
  CHECK(fetches == 15);
  CHECK(stores == 15);
  CHECK(read == engine.streamed().kv_read_bytes);
  CHECK(written == engine.streamed().kv_written_bytes);
}

TEST_CASE(
    "Spilled keys and values: a directory that cannot hold them is an error when the engine is opened, and one that can is left empty") {
  const Deep deep("tied-q4_1", 5);
  const Plan plan = must(plan_for(deep.model, {.kv_spilled_layers = 5}));
  EngineOptions options;
  options.spill_directory = "/nowhere/at/all";
  const Status missing = Engine::open(deep.model, plan, options).status();
  CHECK(missing.code() == StatusCode::kIo);
  CHECK(missing.file() == options.spill_directory);
  std::string pattern = "/var/tmp/outrigger-XXXXXX";
  REQUIRE(::mkdtemp(pattern.data()) != nullptr);
  options.spill_directory = pattern;
  {
    const Engine engine = must(Engine::open(deep.model, plan, options));
    Session session = must(Session::open(engine));
    must(session.prefill(some_tokens(deep.model, 50)));
    CHECK(std::filesystem::is_empty(pattern));
  }
  std::filesystem::remove_all(pattern);
}

}  // namespace
}  // namespace outrigger::testing
