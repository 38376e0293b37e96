// DraftChoice: trees where they are faster, chains elsewhere, and sizes that fit.
#include "src/decode/draft_choice.h"

#include <functional>
#include <random>

#include "tests/support/engines.h"

namespace outrigger::testing {
namespace {

/// A made-up model and its draft: how often a token of a chain and one of a tree's depths is accepted.
struct World {
  double chain = 0.6, tree = 0.8;
  double draft_ms = 0;                        ///< of a length of 1
  std::function<double(uint32_t)> verify_ms;  ///< by tokens
};

struct Run {
  uint64_t passes = 0, tokens = 0, trees = 0, chains = 0;
  double ms = 0;
  double ms_per_token() const { return ms / static_cast<double>(tokens); }
};

Run run(DraftChoice& choice, const World& world, uint64_t tokens, uint32_t seed = 1) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> uniform(0, 1);
  Run run;
  while (run.tokens < tokens) {
    const DraftSize size = choice.next();
    PassRecord pass;
    pass.asked = pass.depth = size.depth;
    pass.drafted = size.tokens;
    while (pass.accepted < pass.depth && uniform(random) < (size.is_tree() ? world.tree : world.chain)) ++pass.accepted;
    pass.draft_ms = size.depth * world.draft_ms;
    pass.verify_ms = world.verify_ms(pass.drafted + 1) * (0.97 + 0.06 * uniform(random));
    choice.record(pass);
    ++run.passes;
    run.tokens += 1 + pass.accepted;
    run.trees += size.tokens > 0 && size.is_tree(), run.chains += size.tokens > 0 && !size.is_tree();
    run.ms += pass.draft_ms + pass.verify_ms;
  }
  return run;
}

double expected_ms(const World& world, uint32_t depth, uint32_t width) {
  double tokens = 1, reached = 1;
  for (uint32_t i = 0; i < depth; ++i) tokens += reached *= width > 1 ? world.tree : world.chain;
  return (depth * world.draft_ms + world.verify_ms(depth * width + 1)) / tokens;
}

double best_ms(const World& world) {
  double best = expected_ms(world, 0, 1);
  for (uint32_t n = 1; n <= 16; ++n) best = std::min(best, expected_ms(world, n, 1));
  for (uint32_t n = 1; n <= 10; ++n) best = std::min(best, expected_ms(world, n, 3));
  return best;
}

const auto kFlat = [](uint32_t) { return 10.0; };                         // reading the weights takes all the time
const auto kLinear = [](uint32_t tokens) { return 8.0 + 2.0 * tokens; };  // computing takes much of it

DraftChoice any_shape(uint32_t most_tokens = 31, uint32_t width = 3) {
  return DraftChoice({DraftKind::kModel, "d", 0}, most_tokens, width);
}

TEST_CASE("DraftChoice: settles on trees where they are faster, on chains where those are, and comes within a tenth of the best of both") {
  for (const World& world :
       {World{0.6, 0.8, 0.5, kFlat}, World{0.6, 0.8, 0.5, kLinear}, World{0.7, 0.71, 0.5, kLinear}, World{0.9, 0.9, 0.2, kFlat}}) {
    CAPTURE(world.chain, world.tree, world.verify_ms(32));
    DraftChoice choice = any_shape();
    run(choice, world, 400);  // finding out
    CHECK(DraftChoice(any_shape()).ms_per_token() == 0);
    const Run settled = run(choice, world, 6000, 2);
    CHECK(settled.ms_per_token() < 1.1 * best_ms(world));
    CHECK(choice.ms_per_token() == Approx(settled.ms_per_token()).epsilon(0.15));
    if (world.tree > world.chain + 0.05 && world.verify_ms(32) == world.verify_ms(1)) CHECK(settled.trees > 5 * settled.chains);
    if (world.tree < world.chain + 0.05 && world.verify_ms(32) > world.verify_ms(1)) CHECK(settled.chains > 5 * settled.trees);
  }
}

TEST_CASE("DraftChoice: goes from one shape to the other when what is accepted changes") {
  const World for_trees{0.5, 0.85, 0.1, kFlat}, for_chains{0.85, 0.5, 0.1, kFlat};
  DraftChoice choice = any_shape();
  run(choice, for_trees, 2000);
  CHECK(run(choice, for_trees, 500, 2).trees > 50);
  run(choice, for_chains, 4000, 3);
  const Run changed = run(choice, for_chains, 1000, 4);
  CHECK(changed.chains > 10 * changed.trees);
}

TEST_CASE("DraftChoice: gives up where neither pays, and loses little by trying both") {
  const World hopeless{0.03, 0.05, 3, kLinear};
  DraftChoice choice = any_shape();
  const Run lost = run(choice, hopeless, 4000);
  CHECK(lost.ms_per_token() < 1.04 * hopeless.verify_ms(1));
  CHECK(lost.trees > 0);
  CHECK(lost.trees + lost.chains < lost.passes / 10);
  SpeculationReport report;
  for (int i = 0; i < 600 && !report.auto_off; ++i) {
    run(choice, hopeless, 1, static_cast<uint32_t>(i));
    choice.tell_given_up(&report);
  }
  CHECK(report.auto_off);
  CHECK(report.ms_per_token_plain == Approx(hopeless.verify_ms(1)).epsilon(0.05));
  CHECK(report.ms_per_token_drafted * 1.02 >= report.ms_per_token_plain);
}

TEST_CASE("DraftChoice: what was asked for is what there is, in sizes that fit") {
  const World world{0.6, 0.8, 0, kFlat};
  const auto only = [&](DraftOptions options, uint32_t most, uint32_t width, bool trees) {
    DraftChoice choice(options, most, width);
    for (int i = 0; i < 300; ++i) {
      const DraftSize size = choice.next();
      CAPTURE(options.tokens, most, width);
      REQUIRE(size.tokens <= std::min(most, options.tokens == 0 ? 31u : options.tokens));
      REQUIRE(size.tokens <= choice.most_tokens());
      REQUIRE(size.depth <= size.tokens);
      REQUIRE(size.depth <= kMostDraftTokens);
      REQUIRE(size.depth * size.width >= size.tokens);
      if (size.tokens > 0) REQUIRE(size.is_tree() == trees);
      if (options.tokens > 0) REQUIRE(size.tokens == std::min(options.tokens, most));
      PassRecord pass;
      pass.depth = size.depth, pass.drafted = size.tokens, pass.accepted = size.depth / 2, pass.verify_ms = 10;
      choice.record(pass);
    }
  };
  for (const uint32_t most : {2u, 3u, 7u, 16u, 31u}) {
    for (const uint32_t width : {2u, 3u, 5u}) {
      only({DraftKind::kModel, "d", 0, DraftShape::kTree}, most, width, true);
      only({DraftKind::kModel, "d", 9, DraftShape::kTree}, most, width, true);
      only({DraftKind::kModel, "d", 0, DraftShape::kChain}, most, width, false);
      only({DraftKind::kModel, "d", 9, DraftShape::kAuto}, most, width, false);  // a fixed number comes again with its seed
    }
    only({DraftKind::kModel, "d", 0, DraftShape::kAuto}, most, 1, false);
    only({DraftKind::kModel, "d", 0, DraftShape::kTree}, most, 1, false);
  }
  only({DraftKind::kModel, "d", 31, DraftShape::kTree}, 31, 3, true);
  only({DraftKind::kModel, "d", 1, DraftShape::kTree}, 31, 3, false);
}

}  // namespace
}  // namespace outrigger::testing
