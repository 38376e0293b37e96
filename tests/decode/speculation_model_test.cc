// Speculation on the default model: the plain text, in memory and under a budget that makes it stream.
#include <outrigger/speculation.h>

#include <cmath>

#include "tests/support/engines.h"
#include "tests/support/few_cases.h"

namespace outrigger::testing {
namespace {

constexpr uint32_t kContext = 320;

Engine engine_with(const Model& model, uint64_t host_bytes, uint64_t draft_bytes) {
  Workload workload;
  workload.context_tokens = kContext;
  workload.prompt_tokens = workload.new_tokens = kContext / 2;
  workload.draft_tokens = kMostDraftTokens;
  workload.draft_bytes = draft_bytes;
  return must(Engine::open(model, must(PlacementPlanner::plan(must(model.step_shape()), made_up_machine(2), {host_bytes, 0}, workload))));
}

TEST_CASE("The default model: greedy text is the same with every draft of every length, in memory and from disk") {
  const Model model = must(Model::open(default_model_path()));
  const std::string text =
      "Alice has a red box, a green box and a blue box. In the red box there is a key. In the green box there is a coin. In the blue box "
      "there is";
  const std::vector<Token> prompt = must(must(model.tokenizer()).encode(text, {.add_special = true}));
  const uint64_t draft_bytes = must(draft_model_bytes(model, kContext, 2));
  std::vector<Token> plain;
  for (const uint64_t budget : {Budgets::kUnlimited, draft_bytes + (uint64_t{64} << 20)}) {
    const Engine engine = engine_with(model, budget, draft_bytes);
    CHECK((engine.plan().decode.streamed_bytes > 0) == (budget != Budgets::kUnlimited));
    const bool streams = budget != Budgets::kUnlimited;
    for (const DraftOptions& draft : {DraftOptions{},
                                      {DraftKind::kAuto, "", 0},
                                      {DraftKind::kNgram, "", 2},
                                      {DraftKind::kNgram, "", 16},
                                      {DraftKind::kModel, default_model_path(), 5}}) {
      CAPTURE(streams, draft_kind_name(draft.kind), draft.tokens);
      Session session = must(Session::open(engine));
      GenerateOptions options;
      options.max_tokens = streams ? 32 : 96;
      options.ignore_eos = true;
      options.draft = draft;
      const GenerateResult result = must(session.generate(prompt, options));
      if (plain.empty()) plain = result.tokens;
      CHECK(std::equal(result.tokens.begin(), result.tokens.end(), plain.begin()));
      if (draft.kind == DraftKind::kModel) CHECK(result.speculation.accepted == result.speculation.drafted);
      if (draft.kind == DraftKind::kNgram) CHECK(result.speculation.accepted > 0);
    }
    if (streams) CHECK(engine.memory().host.peak_bytes <= budget);
  }
}

TEST_CASE("The default model: the tokens of a pass are within a tenth of what was expected of its drafts") {
  const Model model = must(Model::open(default_model_path()));
  const Engine engine = engine_with(model, Budgets::kUnlimited, 0);
  const std::vector<Token> prompt = must(must(model.tokenizer()).encode("Once upon a time there was a little", {.add_special = true}));
  for (const uint32_t tokens : {1u, 2u}) {
    CAPTURE(tokens);
    Session session = must(Session::open(engine));
    GenerateOptions options;
    options.max_tokens = kIsSanitized ? 100 : 300;
    options.ignore_eos = true;
    options.draft = {DraftKind::kNgram, "", tokens};
    const SpeculationReport report = must(session.generate(prompt, options)).speculation;
    const auto passes = static_cast<double>(report.passes);
    CHECK(passes > 50);
    CHECK(report.accepted > 0);
    CHECK(report.accepted < report.drafted);
    CHECK(std::abs((passes + report.expected_accepted) / (passes * report.tokens_per_pass) - 1) < 0.1);
  }
}

}  // namespace
}  // namespace outrigger::testing
