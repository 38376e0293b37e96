// Sessions of mixtures of experts: the same bits wherever the experts are, and what is left after a failure.
#include <outrigger/session.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include <unistd.h>

#include "src/decode/engine_impl.h"
#include "src/decode/session_impl.h"
#include "tests/support/allocations.h"
#include "tests/support/engines.h"
#include "tests/support/greedy.h"

namespace outrigger::testing {
namespace {

constexpr const char* kMixtures[] = {"mixtral", "mixtral-split", "qwen2moe", "qwen3moe", "qwen3moe-raw"};

Model tiny(const char* name) { return must(Model::open(tiny_model_path(name))); }

std::vector<Token> some_tokens(const Model& model, size_t count, uint32_t seed = 1) {
  std::vector<Token> tokens;
  for (size_t i = 0; i < count; ++i) {
    tokens.push_back(static_cast<Token>(((seed = seed * 1664525 + 1013904223) >> 8) % model.info().vocabulary_tokens));
  }
  return tokens;
}

std::vector<float> logits_after(const Engine& engine, std::span<const Token> tokens, size_t chunk) {
  Session session = must(Session::open(engine));
  for (; !tokens.empty(); tokens = tokens.subspan(std::min(chunk, tokens.size())))
    must(session.prefill(tokens.first(std::min(chunk, tokens.size()))));
  return {session.logits().begin(), session.logits().end()};
}

TEST_CASE("Experts: logits have the same bits whether experts are resident or pass through slots, for any threads and chunks") {
  uint32_t cached = 0;
  for (const char* name : kMixtures) {
    const Model model = tiny(name);
    const std::vector<Token> tokens = some_tokens(model, 70);
    const std::vector<float> expected = logits_after(open_engine(model), tokens, 70);
    const std::vector<Token> text = greedy(open_engine(model), tokens, 20);
    for (const uint64_t extra : {0, 20'000, 120'000}) {
      for (const uint32_t threads : {1u, 2u, 3u}) {
        const uint64_t budget = smallest_budget(model, {.threads = threads}) + extra;
        const EngineSetup setup{.host_bytes = budget, .threads = threads};
        const Result<Plan> plan = plan_for(model, setup);
        if (!plan.is_ok()) continue;
        CAPTURE(name, budget, threads, plan.value().expert_slots);
        cached += plan.value().expert_slots > 0;
        const Engine engine = open_engine(model, setup);
        for (const size_t chunk : {size_t{1}, size_t{7}, size_t{70}}) {
          CAPTURE(chunk);
          CHECK(logits_after(engine, tokens, chunk) == expected);
        }
        CHECK(greedy(engine, tokens, 20) == text);
        CHECK(engine.memory().host.peak_bytes <= budget);
        CHECK((engine.experts().uses > 0) == (plan.value().expert_slots > 0));
        CHECK(engine.experts().hits <= engine.experts().uses);
      }
    }
  }
  CHECK(cached > 15);
}

TEST_CASE("Experts: a step allocates nothing, whatever of the experts is in memory") {
  for (const char* name : kMixtures) {
    CAPTURE(name);
    const Model model = tiny(name);
    const Engine engine = open_engine(model, {.host_bytes = smallest_budget(model, {}) + 20'000});
    Session session = must(Session::open(engine));
    const std::vector<Token> prompt = some_tokens(model, 9), more = some_tokens(model, 12, 5);
    must(session.prefill(prompt));
    CHECK(allocations_of_steps(session, more) == 0);
  }
}

TEST_CASE("Experts: cancelled at 200 random moments, the session goes on from its last complete token and a fresh one says the same") {
  const Model model = tiny("qwen3moe");
  const Engine engine = open_engine(model, {.host_bytes = smallest_budget(model, {.batch = 2}), .batch = 2});
  REQUIRE(engine.plan().expert_slots > 0);
  Session session = must(Session::open(engine));
  std::mt19937 random(4);
  uint32_t cancelled = 0;
  for (int round = 0; round < 200; ++round) {
    must(session.truncate(0));
    GenerateOptions options;
    options.max_tokens = 20;
    options.ignore_eos = true;
    const CancelToken cancel = options.cancel;
    std::thread other([cancel, wait = std::chrono::microseconds(random() % 8000)] {
      std::this_thread::sleep_for(wait);
      cancel.cancel();
    });
    const GenerateResult result = must(session.generate(some_tokens(model, 20), options));
    other.join();
    cancelled += result.stop_reason == StopReason::kCancelled;
    const std::vector<Token> held(session.tokens().begin(), session.tokens().end());
    if (held.empty()) continue;
    Session fresh = must(Session::open(engine));
    must(fresh.prefill(held));
    must(session.prefill(some_tokens(model, 1, 3)));
    must(fresh.prefill(some_tokens(model, 1, 3)));
    CHECK(std::equal(session.logits().begin(), session.logits().end(), fresh.logits().begin(), fresh.logits().end()));
  }
  CHECK(cancelled > 20);
}

TEST_CASE("Experts: a file that is cut while the engine runs ends the step with an I/O error, and everything is given back") {
  const std::string path = (std::filesystem::temp_directory_path() / ("experts." + std::to_string(::getpid()) + ".gguf")).string();
  std::filesystem::copy_file(tiny_model_path("mixtral"), path, std::filesystem::copy_options::overwrite_existing);
  const Model model = must(Model::open(path));
  const Engine engine = open_engine(model, {.host_bytes = smallest_budget(model, {})});
  REQUIRE(engine.plan().expert_slots > 0);
  const uint64_t before = engine.memory().host.current_bytes;
  {
    Session session = must(Session::open(engine));
    must(session.prefill(some_tokens(model, 5)));
    std::filesystem::resize_file(path, std::filesystem::file_size(path) / 2);
    const Status status = session.prefill(some_tokens(model, 5));
    CHECK(status.code() == StatusCode::kIo);
    CHECK(status.message().find("changed while in use") != std::string::npos);
    CHECK(session.tokens().size() == 5);
  }
  CHECK(engine.memory().host.current_bytes == before);
  std::filesystem::remove(path);
}

TEST_CASE("Experts: two sessions at once say what each says alone") {
  const Model model = tiny("qwen2moe");
  const Engine engine = open_engine(model, {.host_bytes = smallest_budget(model, {.batch = 2}), .batch = 2});
  std::vector<std::vector<Token>> alone, together(2);
  for (uint32_t i = 0; i < 2; ++i) alone.push_back(greedy(engine, some_tokens(model, 12, i + 1), 15));
  std::vector<std::thread> threads;
  for (uint32_t i = 0; i < 2; ++i) {
    threads.emplace_back([&, i] {
      Session session = must(Session::open(engine));
      GenerateOptions options;
      options.max_tokens = 15;
      options.ignore_eos = true;
      together[i] = session.generate(some_tokens(model, 12, i + 1), options).value().tokens;
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(together == alone);
}

}  // namespace
}  // namespace outrigger::testing
