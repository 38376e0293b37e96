// Engine::replan: budgets lowered and raised under open sessions.
#include <outrigger/session.h>

#include "tests/support/engines.h"

namespace outrigger::testing {
namespace {

std::vector<Token> continued(Session& session, uint32_t count) {
  GenerateOptions options;
  options.max_tokens = count;
  options.ignore_eos = true;
  const std::vector<Token> one{5};
  return must(session.generate(one, options)).tokens;
}

const std::vector<Token> kPrompt = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9};

TEST_CASE("Replan: a session goes on with the same text under ever other budgets and threads, and each budget is kept") {
  for (const char* name : {"tied-q4_1", "llama3-mixed", "mixtral", "qwen2moe"}) {
    const Model model = must(Model::open(tiny_model_path(name)));
    Session reference = must(Session::open(open_engine(model)));
    must(reference.prefill(kPrompt));
    const uint64_t least = smallest_budget(model, {.threads = 3});
    Engine engine = open_engine(model);
    Session session = must(Session::open(engine));
    must(session.prefill(kPrompt));
    for (const uint64_t extra : {0, 150'000, 20'000, 400'000, 5'000}) {
      for (const uint32_t threads : {1u, 3u, 2u}) {
        CAPTURE(name, extra, threads);
        const EngineSetup setup{.host_bytes = least + extra, .threads = threads};
        must(engine.replan(must(plan_for(model, setup))));
        CHECK(engine.plan().threads == threads);
        CHECK(continued(session, 5) == continued(reference, 5));
        const TierUse use = engine.memory().host;
        CHECK(use.budget_bytes == least + extra);
        CHECK(use.current_bytes <= use.budget_bytes);
        CHECK(use.current_bytes == use.planned_bytes);
      }
    }
    CHECK(engine.streamed().disk_bytes > 0);
  }
}

TEST_CASE("Replan: a plan without room for the open sessions, with other keys and values or of another model changes nothing") {
  const Model model = must(Model::open(tiny_model_path("tied-q4_1"))), other = must(Model::open(tiny_model_path("odd-f32")));
  Engine engine = open_engine(model, {.batch = 2});
  Session first = must(Session::open(engine)), second = must(Session::open(engine));
  must(first.prefill(kPrompt));
  const std::vector<float> before(first.logits().begin(), first.logits().end());
  const Status room = engine.replan(must(plan_for(model, {.batch = 1})));
  CHECK(room.code() == StatusCode::kInvalidArgument);
  CHECK(room.message().find("open sessions hold") != std::string::npos);
  CHECK(engine.replan(must(plan_for(model, {.batch = 2, .kv_type = KvType::kF32}))).code() == StatusCode::kInvalidArgument);
  CHECK(engine.replan(must(plan_for(other, {.batch = 2}))).code() == StatusCode::kInvalidArgument);
  must(second.prefill(kPrompt));
  CHECK(std::equal(before.begin(), before.end(), second.logits().begin(), second.logits().end()));
}

TEST_CASE("Replan: one that is cancelled leaves an engine that says so until the next one, and a session that then goes on") {
  const Model model = must(Model::open(tiny_model_path("mixtral")));
  Session reference = must(Session::open(open_engine(model)));
  must(reference.prefill(kPrompt));
  Engine engine = open_engine(model);
  Session session = must(Session::open(engine));
  must(session.prefill(kPrompt));
  const Plan small = must(plan_for(model, {.host_bytes = smallest_budget(model, {}) + 30'000}));
  CHECK(engine.replan(small, [](double) { return false; }).code() == StatusCode::kCancelled);
  CHECK(session.step(1).code() == StatusCode::kUnavailable);
  CHECK(session.tokens().size() == kPrompt.size());
  must(engine.replan(small));
  CHECK(continued(session, 6) == continued(reference, 6));
}

TEST_CASE("Replan: a trace starts anew with the new graphs") {
  const Model model = must(Model::open(tiny_model_path("tied-q4_1")));
  EngineOptions options;
  options.trace_events = 10000;
  Engine engine = must(Engine::open(model, must(plan_for(model, {})), options));
  Session session = must(Session::open(engine));
  must(session.prefill(kPrompt));
  CHECK(engine.lane_busy().steps == 1);
  must(engine.replan(must(plan_for(model, {.host_bytes = smallest_budget(model, {})}))));
  CHECK(engine.lane_busy().steps == 0);
  must(session.step(1));
  CHECK(engine.lane_busy().steps == 1);
  CHECK(engine.lane_busy().disk_ms > 0);
}

}  // namespace
}  // namespace outrigger::testing
