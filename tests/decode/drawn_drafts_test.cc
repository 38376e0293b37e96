// Drawn text has the distribution of plain drawing, whoever drafts: another model, low-bit copies, or a compressed model without its
// branches, in chains and in trees.
#include <outrigger/speculation.h>

#include <cmath>
#include <map>
#include <utility>

#include "tests/support/branched_model.h"
#include "tests/support/chi_square.h"
#include "tests/support/engines.h"
#include "tests/support/few_cases.h"
#include "tests/support/model_files.h"
#include "tests/support/random_dense.h"
#include "tests/support/similar_draft.h"

namespace outrigger::testing {
namespace {

const std::vector<Token> kPrompt = {3, 14, 15, 92, 65, 35, 89, 79};
constexpr int kSamples = static_cast<int>(seeds(10000));

/// How often texts began with which three tokens, and the probabilities of these.
struct Outcomes {
  DrawnTexts counts, probabilities;
};

/// Over the outcomes' first `length` tokens.
ChiSquare chi_square(const Outcomes& outcomes, size_t length) {
  std::map<std::vector<Token>, std::pair<double, double>> both;
  const auto cut = [length](const std::vector<Token>& tokens) {
    return std::vector<Token>(tokens.begin(), tokens.begin() + static_cast<ptrdiff_t>(length));
  };
  double samples = 0;
  for (const auto& [outcome, times] : outcomes.counts) both[cut(outcome)].second += times, samples += times;
  for (const auto& [outcome, probability] : outcomes.probabilities) both[cut(outcome)].first += probability * samples;
  ChiSquare result{0, static_cast<int>(both.size())};
  for (const auto& [outcome, pair] : both) {
    REQUIRE(pair.first > 0);  // nothing that the sampler leaves out
    result.value += std::pow(pair.second - pair.first, 2) / pair.first;
  }
  return result;
}

/// What the sampler says of the three tokens behind the prompt, given what the model says.
void add_probabilities(Session& session, Sampler& sampler, std::vector<Token> said, double probability, Outcomes* outcomes) {
  if (said.size() == 3) {
    outcomes->probabilities[said] = probability;
    return;
  }
  must(session.truncate(0));
  std::vector<Token> text = kPrompt;
  text.insert(text.end(), said.begin(), said.end());
  must(session.prefill(text));
  const auto found = must(sampler.distribution(session.logits(), text));
  for (const TokenProbability& one : std::vector(found.begin(), found.end())) {
    std::vector<Token> longer = said;
    longer.push_back(one.token);
    add_probabilities(session, sampler, longer, probability * one.probability, outcomes);
  }
}

/// Hot, so that no text is rare and drafts are often wrong.
struct Heat {
  float temperature = 8;
  int32_t top_k = 3;
};

/// Over the next token and the next two. The first token of each text is drawn as ever; the two behind it are drafted and verified by one
/// pass, which needs room for one more.
void check_distribution(const Engine& engine, const DraftOptions& draft, const Heat& heat = {}, uint64_t samples = kSamples) {
  Session session = must(Session::open(engine));
  Outcomes outcomes;
  Sampler sampler = must(Sampler::create({.temperature = heat.temperature, .top_k = heat.top_k}));
  add_probabilities(session, sampler, {}, 1, &outcomes);
  uint64_t trees = 0, drafted = 0, accepted = 0, passes = 0;
  for (uint64_t i = 0; i < samples; ++i) {
    must(session.truncate(7));
    GenerateOptions options;
    options.max_tokens = 4;
    options.ignore_eos = true;
    options.draft = draft;
    options.sampling = {.temperature = heat.temperature, .top_k = heat.top_k, .seed = 5000 + i};
    const GenerateResult result = must(session.generate(std::span(kPrompt).last(1), options));
    outcomes.counts[{result.tokens.begin(), result.tokens.begin() + 3}] += 1;
    trees += result.speculation.tree_passes, passes += result.speculation.passes;
    drafted += result.speculation.drafted, accepted += result.speculation.accepted;
  }
  CHECK((trees > samples / 2) == (draft.shape == DraftShape::kTree));
  CHECK(accepted > passes / 8);
  CHECK(drafted - accepted > passes / 8);
  for (const size_t length : {2, 3}) {
    const ChiSquare got = chi_square(outcomes, length);
    CAPTURE(length);
    CHECK(got.outcomes == std::lround(std::pow(heat.top_k, length)));
    CHECK(got.value < most_chi_square(got.outcomes));
  }
}

struct Room {
  uint64_t draft_bytes = 0;
  StandIns stand_ins = StandIns::kNone;
  uint64_t host_bytes = Budgets::kUnlimited;
};

Result<Plan> plan_with(const Model& model, const Room& room) {
  Workload workload;
  workload.context_tokens = 256;
  workload.prompt_tokens = workload.new_tokens = 128;
  workload.draft_tokens = kMostTreeDraftTokens;
  workload.draft_bytes = room.draft_bytes;
  workload.stand_ins = room.stand_ins;
  return PlacementPlanner::plan(must(model.step_shape()), made_up_machine(1), {room.host_bytes, 0}, workload);
}

Engine engine_with(const Model& model, const Room& room) { return must(Engine::open(model, must(plan_with(model, room)))); }

Engine engine_with(const SimilarDraft& files) {
  return engine_with(files.target, {must(draft_model_bytes(must(Model::open(files.draft)), 256, 1))});
}

TEST_CASE("Drawn drafts: chains of a draft model") {
  const SimilarDraft files(0.06f);
  check_distribution(engine_with(files), {DraftKind::kModel, files.draft, 2, DraftShape::kChain});
}

TEST_CASE("Drawn drafts: trees of a draft model") {
  const SimilarDraft files(0.03f);
  const Engine engine = engine_with(files);
  check_distribution(engine, {DraftKind::kModel, files.draft, 6, DraftShape::kTree});
  check_distribution(engine, {DraftKind::kModel, files.draft, 31, DraftShape::kTree}, {12, 4});
}

// A step that reads from disk takes ten times as long as another one: so of one layer not all is streamed.
TEST_CASE("Drawn drafts: chains and trees of low-bit copies") {
  const ScratchFolder scratch;
  const Model model = write_and_open(scratch, random_dense(DenseKind::kLlama, {.layers = 1}));
  const uint64_t least = plan_with(model, {0, StandIns::kTwoBits, 1}).status().needed_bytes();
  const Engine engine = engine_with(model, {0, StandIns::kTwoBits, least + 50'000});
  CHECK(engine.plan().decode.streamed_bytes > 100'000);
  check_distribution(engine, {DraftKind::kSelf, "", 2, DraftShape::kChain});
  check_distribution(engine, {DraftKind::kSelf, "", 6, DraftShape::kTree}, {}, kSamples / 5);  // each reads the disk several times
}

TEST_CASE("Drawn drafts: chains of a compressed model without its branches") {
  const Branched branched;
  check_distribution(engine_with(branched.model, {}), {DraftKind::kSelf, "", 2, DraftShape::kChain}, {12, 6});
}

TEST_CASE("Drawn drafts: trees of a compressed model without its branches") {
  const Branched branched;
  const Engine engine = engine_with(branched.model, {});
  check_distribution(engine, {DraftKind::kSelf, "", 6, DraftShape::kTree});
  check_distribution(engine, {DraftKind::kSelf, "", 31, DraftShape::kTree}, {12, 6});
}

}  // namespace
}  // namespace outrigger::testing
