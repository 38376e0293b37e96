// A draft model's steps in the trace of the engine that it drafts for: between the steps that verify, or beside them.
#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "src/decode/engine_impl.h"
#include "tests/decode/drafted_batches.h"
#include "tests/support/device_plans.h"

namespace outrigger::testing {
namespace {

using nlohmann::json;

struct Span {
  double begin_us = 0, end_us = 0;
  uint64_t tokens = 0, texts = 0;

  bool overlaps(const Span& other) const { return begin_us < other.end_us && other.begin_us < end_us; }
};

struct Traced {
  std::vector<Span> steps, drafts;

  explicit Traced(const SimilarDraft& files, const Engine& engine) {
    const std::string path = files.scratch / "trace.json";
    must(engine.write_trace(path));
    std::ifstream file(path);
    const json trace = json::parse(file, nullptr, false);
    REQUIRE(trace.is_object());
    for (const json& event : trace["traceEvents"]) {
      const std::string kind = event.value("cat", "");
      if (kind != "step" && kind != "draft") continue;
      const double begin_us = event["ts"], length_us = event["dur"];
      const json& args = event["args"];
      (kind == "step" ? steps : drafts).push_back({begin_us, begin_us + length_us, args["tokens"], args.value("texts", uint64_t{1})});
    }
  }
  size_t drafts_beside_steps() const {
    return static_cast<size_t>(std::count_if(drafts.begin(), drafts.end(), [this](const Span& draft) {
      return std::any_of(steps.begin(), steps.end(), [&](const Span& step) { return step.overlaps(draft); });
    }));
  }
};

Engine traced_engine(const SimilarDraft& files, uint32_t batch) {
  EngineOptions options;
  options.trace_events = 10000;
  return must(Engine::open(files.target, must(plan_with(files, {.batch = batch})), options));
}

TEST_CASE("Draft trace: a conversation's draft has a step for the prompt and one for each further token, between the model's steps") {
  const SimilarDraft files(0);
  const Engine engine = traced_engine(files, 1);
  Session session = must(Session::open(engine));
  GenerateOptions options;
  options.max_tokens = 16;
  options.ignore_eos = true;
  options.draft = {DraftKind::kModel, files.draft, 4};
  const GenerateResult result = must(session.generate(std::vector<Token>{3, 14, 15, 92}, options));
  REQUIRE(result.speculation.passes == 3);  // the first token, and three times four that were right and one more
  const Traced traced(files, engine);
  REQUIRE(traced.drafts.size() == 3 * 4);
  // The prompt and the first token, a token each of the draft; then what was right, as far as it is not computed, and the one more.
  CHECK(traced.drafts[0].tokens == 5);
  for (size_t i = 0; i < traced.drafts.size(); ++i) {
    CHECK(traced.drafts[i].texts == 1);
    if (i > 0) CHECK(traced.drafts[i].tokens == (i % 4 == 0 ? 2 : 1));
    if (i > 0) CHECK(traced.drafts[i].begin_us >= traced.drafts[i - 1].end_us);
  }
  CHECK(traced.drafts_beside_steps() == 0);
}

// Its passes take some 30 ms, whatever else the machine does: a thread that drafts has begun by then.
Engine slow_engine(const SimilarDraft& files, uint32_t batch) {
  const auto streams = [](const MatrixShape& matrix) { return matrix.part == MatrixPart::kFeedForward ? Place::kStreamed : Place::kHost; };
  EngineOptions options;
  options.trace_events = 10000;
  options.device = "emulated:memory=64MiB,link=10MB/s,latency=0us";
  return must(Engine::open(files.target,
                           placed_on_device(must(plan_with(files, {.batch = batch})), must(files.target.step_shape()), streams), options));
}

TEST_CASE("Draft trace: together the texts of a batch draft between steps, and two groups beside them") {
  const SimilarDraft files(0.03f);
  const Engine whole = slow_engine(files, 4), halves = slow_engine(files, 4);
  std::vector<BatchRequest> requests = greedy_requests(4, {DraftKind::kModel, files.draft, 3});
  for (BatchRequest& request : requests) request.options.max_tokens = 16;
  BatchOptions options;
  options.groups = 1;
  must(generate_batch(whole, requests, options));
  options.groups = 2;
  const BatchReport report = must(generate_batch(halves, requests, options)).report;
  const Traced together(files, whole), alternating(files, halves);
  REQUIRE(together.drafts.size() > 5);
  CHECK(std::any_of(together.drafts.begin(), together.drafts.end(), [](const Span& draft) { return draft.texts == 4; }));
  CHECK(together.drafts_beside_steps() == 0);
  REQUIRE(report.alternated_steps > 5);
  CHECK(alternating.drafts_beside_steps() > report.alternated_steps / 2);
}

TEST_CASE("Draft trace: goes on after a change of the plan, and without a trace nothing is kept") {
  const SimilarDraft files(0);
  Engine engine = traced_engine(files, 1);
  Session session = must(Session::open(engine));
  GenerateOptions options;
  options.max_tokens = 16;
  options.ignore_eos = true;
  options.draft = {DraftKind::kModel, files.draft, 4};
  must(session.generate(std::vector<Token>{3, 14, 15, 92}, options));
  must(engine.replan(engine.plan()));
  CHECK(Traced(files, engine).drafts.empty());
  must(session.truncate(0));
  must(session.generate(std::vector<Token>{3, 14, 15, 92}, options));
  CHECK(Traced(files, engine).drafts.size() > 3);
  const Engine untraced = engine_with(files, {.batch = 1});
  Session other = must(Session::open(untraced));
  must(other.generate(std::vector<Token>{3, 14, 15, 92}, options));
  CHECK(untraced.impl()->draft_track == nullptr);
}

}  // namespace
}  // namespace outrigger::testing
