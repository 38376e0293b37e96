// DraftLength: what it settles on for given acceptance and costs, and that it stops where nothing pays.
#include "src/decode/draft_length.h"

#include <cmath>
#include <functional>
#include <random>

#include "src/decode/batch_draft_length.h"
#include "tests/support/engines.h"

namespace outrigger::testing {
namespace {

/// A made-up model and its draft.
struct World {
  double acceptance = 0.8;
  double draft_ms = 0;                        ///< of a token
  std::function<double(uint32_t)> verify_ms;  ///< by tokens
  double drafts = 1;                          ///< share of passes in which the draft knows something
  double cold = 0;                            ///< that the first steps take longer, of what they take
};

struct Run {
  uint64_t passes = 0, tokens = 0, drafted = 0, drafted_passes = 0;
  double ms = 0;
};

Run run(DraftLength& length, const World& world, uint64_t tokens, uint32_t seed = 1) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> uniform(0, 1);
  Run run;
  while (run.tokens < tokens) {
    PassRecord pass;
    pass.asked = length.next();
    pass.drafted = pass.depth = uniform(random) < world.drafts ? pass.asked : 0;
    while (pass.accepted < pass.drafted && uniform(random) < world.acceptance) ++pass.accepted;
    pass.draft_ms = pass.drafted * world.draft_ms;
    const double slower = 1 + world.cold * std::exp(-static_cast<double>(run.tokens) / 15);
    pass.verify_ms = world.verify_ms(pass.drafted + 1) * (0.97 + 0.06 * uniform(random)) * slower;
    length.record(pass);
    ++run.passes;
    run.tokens += 1 + pass.accepted;
    run.drafted += pass.drafted;
    run.drafted_passes += pass.drafted > 0;
    run.ms += pass.draft_ms + pass.verify_ms;
  }
  return run;
}

double expected_ms(const World& world, uint32_t drafted) {
  double tokens = 1, reached = 1;
  for (uint32_t i = 0; i < drafted; ++i) tokens += reached *= world.acceptance;
  return (drafted * world.draft_ms + world.verify_ms(drafted + 1)) / tokens;
}

double best_ms(const World& world, uint32_t most) {
  double best = expected_ms(world, 0);
  for (uint32_t n = 1; n <= most; ++n) best = std::min(best, expected_ms(world, n));
  return best;
}

const auto kFlat = [](uint32_t) { return 10.0; };                         // reading the weights takes all the time
const auto kLinear = [](uint32_t tokens) { return 4.0 + 6.0 * tokens; };  // computing does
const auto kSteps = [](uint32_t tokens) { return 10.0 + 4 * ((tokens - 1) / 4); };
// Of 32 experts each token reads two, of which others read some already: E (1 - (1 - k/E)^n) of them on average, a millisecond each.
const auto kMixture = [](uint32_t tokens) { return 2.0 + 32 * (1 - std::pow(1 - 2.0 / 32, tokens)); };

TEST_CASE("DraftLength: comes within a tenth of the best fixed length, whatever is accepted and whatever it costs") {
  for (const double acceptance : {0.1, 0.5, 0.8, 0.95}) {
    for (const double draft_ms : {0.0, 0.5, 3.0}) {
      int shape = 0;
      for (const std::function<double(uint32_t)>& verify :
           std::initializer_list<std::function<double(uint32_t)>>{kFlat, kLinear, kSteps, kMixture}) {
        CAPTURE(acceptance, draft_ms, shape++);
        const World world{acceptance, draft_ms, verify};
        double ms = 0, tokens = 0;  // of several texts, since one in fifteen of the least favourable world is further off by chance
        for (uint32_t seed = 1; seed <= 5; ++seed) {
          DraftLength length(16, false, true);
          run(length, world, 200, seed);  // finding out
          const Run settled = run(length, world, 4000, seed + 5);
          ms += settled.ms, tokens += static_cast<double>(settled.tokens);
        }
        CHECK(ms / tokens < 1.1 * best_ms(world, 16));
      }
    }
  }
}

TEST_CASE("DraftLength: lengths between two that were measured are tried where steps may be shorter than the line through these") {
  // Reading the weights takes as long for three tokens as for one; or steps of three tokens happen to be quick.
  const auto hinge = [](uint32_t tokens) { return std::max(10.0, 3.3 * tokens); };
  const auto dip = [](uint32_t tokens) { return tokens == 3 ? 11.5 : 9 + 1.5 * tokens; };
  for (const World& world : {World{0.9, 0.8, hinge}, World{0.6, 0.05, hinge}, World{0.75, 0.05, dip}}) {
    double ms = 0, tokens = 0;
    for (uint32_t seed = 1; seed <= 20; ++seed) {
      DraftLength length(16, false, true);
      run(length, world, 200, seed);
      const Run settled = run(length, world, 1000, seed + 100);
      ms += settled.ms, tokens += static_cast<double>(settled.tokens);
    }
    CAPTURE(world.acceptance, world.verify_ms(4), ms / tokens / best_ms(world, 16));
    CHECK(ms / tokens < 1.04 * best_ms(world, 16));
  }
}

TEST_CASE("DraftLength: what a plan says of growth, right or wrong, is what it begins with and not where it ends") {
  for (const double growth : {0.0, 0.2, 1.0}) {
    for (const double acceptance : {0.5, 0.95}) {
      for (const std::function<double(uint32_t)>& verify : std::initializer_list<std::function<double(uint32_t)>>{kFlat, kLinear, kSteps}) {
        const World world{acceptance, 0.1, verify};
        DraftLength length(16, false, true, 1, growth);
        run(length, world, 200);
        const Run settled = run(length, world, 4000, 2);
        CAPTURE(growth, acceptance, verify(1), verify(16));
        CHECK(settled.ms / static_cast<double>(settled.tokens) < 1.1 * best_ms(world, 16));
      }
    }
  }
}

TEST_CASE("DraftLength: a plan that knows that tokens cost time loses less by trying in a short text") {
  const auto in_memory = [](uint32_t tokens) { return 8.0 + 2 * tokens; };  // as of a small model with everything resident
  const World hopeless{0.05, 0, in_memory, 0.3};
  double lost[2];
  for (const bool knows : {false, true}) {
    double ms = 0, tokens = 0;
    for (uint32_t seed = 1; seed <= 50; ++seed) {
      DraftLength length(16, false, true, 1, knows ? 0.2 : 0);
      const Run text = run(length, hopeless, 100, seed);
      ms += text.ms, tokens += static_cast<double>(text.tokens);
    }
    lost[knows] = ms / (tokens * in_memory(1)) - 1;
  }
  CAPTURE(lost[0], lost[1]);
  CHECK(lost[1] < 0.025);
  CHECK(lost[1] < 0.7 * lost[0]);
}

TEST_CASE("DraftLength: a plan's growth is what a prompt's step adds for each token, of a step of decoding") {
  Plan plan;
  plan.decode.tokens = 1, plan.decode.predicted_ms = 10;
  plan.prefill.tokens = 101, plan.prefill.predicted_ms = 210;
  CHECK(planned_growth(plan) == Approx(0.2));
  plan.decode.tokens = 4;  // of four texts: a token of each adds four times as much
  plan.prefill.tokens = 104;
  CHECK(planned_growth(plan) == Approx(0.8));
  plan.prefill.predicted_ms = 10000;
  CHECK(planned_growth(plan) == 1);
  plan.prefill.predicted_ms = 9;
  CHECK(planned_growth(plan) == DraftLength::kLeastGrowth);
  plan.prefill.tokens = 4;  // no longer step there
  CHECK(planned_growth(plan) == DraftLength::kLeastGrowth);
}

TEST_CASE("DraftLength: what was learnt in steps of other sizes spares the first steps, and counts until they say otherwise") {
  const auto small = [](uint32_t tokens) { return 10.0 + 0.1 * tokens; };
  DraftLength large(16, false, true);
  run(large, {0.9, 0.2, [](uint32_t tokens) { return 20.0 + 0.2 * tokens; }}, 300);
  DraftLength learnt(16, false, true);
  learnt.learn(large);
  CHECK(learnt.next() == large.best());
  CHECK(learnt.expected_accepted(4) == large.expected_accepted(4));
  const World alike{0.9, 0.2, small};
  double ms[2] = {}, tokens[2] = {};
  for (uint32_t seed = 1; seed <= 50; ++seed) {
    for (const bool learns : {false, true}) {
      DraftLength length(16, false, true);
      if (learns) length.learn(large);
      const Run first = run(length, alike, 30, seed);
      ms[learns] += first.ms, tokens[learns] += static_cast<double>(first.tokens);
    }
  }
  CAPTURE(ms[0] / tokens[0], ms[1] / tokens[1], best_ms(alike, 16));
  CHECK(ms[1] / tokens[1] < 1.1 * best_ms(alike, 16));
  CHECK(ms[1] / tokens[1] < 0.9 * ms[0] / tokens[0]);

  const World worse{0.2, 4, small};
  DraftLength misled(16, false, true);
  misled.learn(large);
  run(misled, worse, 200);
  const Run settled = run(misled, worse, 2000, 2);
  CHECK(settled.ms / static_cast<double>(settled.tokens) < 1.1 * best_ms(worse, 16));
}

TEST_CASE("DraftLength: what could not pay if it were right is given up after one draft, and tried again with what drafts take then") {
  const World slow{1, 100, kFlat}, quick{1, 0.1, kFlat};
  DraftLength length(16, false, true);
  const Run given_up = run(length, slow, 40);
  CHECK(given_up.drafted_passes == 1);
  CHECK(length.has_given_up());
  run(length, quick, 100);  // the rest of the pause, and a trial
  const Run settled = run(length, quick, 1000, 2);
  CHECK(settled.ms / static_cast<double>(settled.tokens) < 1.1 * best_ms(quick, 16));
}

TEST_CASE("BatchDraftLength: the first draft tells what drafts cost, and has one token") {
  BatchDraftLength length;
  const auto step = [&length](double draft_ms) {
    const uint32_t asked = length.next();
    for (int text = 0; text < 4; ++text) length.add(asked, asked);
    length.end_step(asked * draft_ms, 10, true);
    return asked;
  };
  CHECK(step(0.1) == 0);
  CHECK(step(0.1) == 1);
  CHECK(step(0.1) > 1);
  BatchDraftLength half;
  half.learn(length);
  CHECK(half.next() > 1);
}

TEST_CASE("DraftLength: one that has drafted learns nothing, nor is there anything to learn of one that has not") {
  DraftLength new_one(16, false, true), tried(16, false, true);
  tried.learn(new_one);
  CHECK(tried.next() == 0);
  run(tried, {0.9, 0.1, kFlat}, 100);
  const double expected = tried.expected_accepted(4);
  DraftLength other(16, false, true);
  run(other, {0.3, 0.1, kFlat}, 100);
  tried.learn(other);
  CHECK(tried.expected_accepted(4) == expected);
}

TEST_CASE("DraftLength: where each further token reads further experts it widens as far as that pays, and no further") {
  for (const double acceptance : {0.7, 0.8, 0.85}) {
    const World world{acceptance, 0.1, kMixture};
    uint32_t best = 1;
    for (uint32_t n = 2; n <= 16; ++n) {
      if (expected_ms(world, n) < expected_ms(world, best)) best = n;
    }
    CAPTURE(acceptance, best);
    REQUIRE(best < 8);
    REQUIRE(expected_ms(world, 16) > 1.1 * expected_ms(world, best));
    REQUIRE(expected_ms(world, best) < 0.9 * expected_ms(world, 0));
    DraftLength length(16, false, true);
    run(length, world, 200);
    const Run settled = run(length, world, 4000, 2);
    CHECK(settled.drafted_passes * 10 > settled.passes * 9);
    CHECK(settled.drafted < (best + 2) * settled.drafted_passes);
    CHECK(settled.drafted * 2 > best * settled.drafted_passes);
  }
}

TEST_CASE("DraftLength: gives up where no draft pays, loses little by trying, and comes back when one does") {
  const World hopeless{0.05, 3, kLinear}, fine{0.9, 0, kFlat};
  DraftLength length(16, false, true);
  const Run lost = run(length, hopeless, 3000);
  CHECK(lost.ms < 1.03 * 3000 * hopeless.verify_ms(1));
  // It is trying, or it has given up.
  CHECK(lost.drafted_passes > 4);
  CHECK(lost.drafted_passes < 150);
  run(length, fine, 3000);
  CHECK_FALSE(length.has_given_up());
  SpeculationReport paying;
  length.tell_given_up(&paying);
  CHECK_FALSE(paying.auto_off);
  CHECK((paying.ms_per_token_drafted == 0 && paying.ms_per_token_plain == 0));
  const Run won = run(length, fine, 1000, 3);
  CHECK(won.ms / static_cast<double>(won.tokens) < 1.15 * best_ms(fine, 16));
  for (int i = 0; i < 500 && !length.has_given_up(); ++i) run(length, hopeless, 1, static_cast<uint32_t>(i));
  CHECK(length.has_given_up());
  CHECK(length.next() == 0);
  SpeculationReport report;
  length.tell_given_up(&report);
  CHECK(report.auto_off);
  CHECK(report.ms_per_token_plain == Approx(hopeless.verify_ms(1)).epsilon(0.05));
  CHECK(report.ms_per_token_drafted * 1.02 >= report.ms_per_token_plain);  // it was given up as soon as it gained no more than that
  CHECK(report.ms_per_token_drafted < hopeless.draft_ms + hopeless.verify_ms(2));
}

TEST_CASE("DraftLength: a fixed length is kept, or given up as a whole") {
  const World hopeless{0.05, 3, kLinear};
  DraftLength kept(5, true, false), given_up(5, true, true);
  const Run always = run(kept, hopeless, 500);
  CHECK(always.drafted == 5 * always.passes);
  CHECK_FALSE(kept.has_given_up());
  const Run seldom = run(given_up, hopeless, 2000);
  CHECK(seldom.drafted % 5 == 0);
  CHECK(seldom.drafted > 0);
  CHECK(seldom.drafted < 5 * seldom.passes / 10);
}

TEST_CASE("DraftLength: never asks for more than there is room for") {
  for (const uint32_t most : {1u, 2u, 7u, 16u}) {
    DraftLength length(most, false, true);
    std::mt19937 random(most);
    for (int i = 0; i < 2000; ++i) {
      PassRecord pass;
      pass.asked = length.next();
      REQUIRE(pass.asked <= most);
      pass.drafted = pass.depth = static_cast<uint32_t>(random() % (pass.asked + 1));
      pass.accepted = static_cast<uint32_t>(random() % (pass.drafted + 1));
      pass.draft_ms = static_cast<double>(random() % 100) / 10;
      pass.verify_ms = 0.1 + static_cast<double>(random() % 100) / 10;
      length.record(pass);
      REQUIRE(std::isfinite(length.ms_per_token(most)));
    }
  }
}

TEST_CASE("DraftLength: after fifty passes the tokens of a pass are expected within a tenth of what they come to") {
  constexpr int kWarmUp = 50, kCounted = 500;
  for (const double acceptance : {0.1, 0.5, 0.8, 0.95}) {
    for (const double falling : {1.0, 0.8}) {  // a place is taken as much less often than the one before it
      for (const uint32_t depth : {1u, 4u, 16u}) {
        CAPTURE(acceptance, falling, depth);
        DraftLength length(depth, true, false);
        std::mt19937 random(depth);
        std::uniform_real_distribution<double> uniform(0, 1);
        double expected = kCounted, made = kCounted;
        for (int pass = 0; pass < kWarmUp + kCounted; ++pass) {
          PassRecord record{depth, depth, depth, 0, 1, 1};
          while (record.accepted < depth && uniform(random) < acceptance * std::pow(falling, record.accepted)) ++record.accepted;
          if (pass >= kWarmUp) expected += length.expected_accepted(depth), made += record.accepted;
          length.record(record);
        }
        CHECK(std::abs(expected / made - 1) < 0.1);
      }
    }
  }
}

TEST_CASE("DraftLength: what drafts seem to gain beside a cold first step is found out after a few of them") {
  // Each token of a step reads experts of its own, and the first tokens all of them.
  const auto experts = [](uint32_t tokens) { return 2.0 + 23.0 * tokens * std::pow(0.93, tokens - 1); };
  for (const double acceptance : {0.6, 0.8}) {
    CAPTURE(acceptance);
    const World world{acceptance, 3, experts, 1, 1.2};
    double drafted_ms = 0, plain_ms = 0;
    for (uint32_t seed = 1; seed <= 50; ++seed) {
      DraftLength length(16, false, true, 1, 0.3), never(16, false, true);
      World plain = world;
      plain.drafts = 0;
      drafted_ms += run(length, world, 200, seed).ms;
      plain_ms += run(never, plain, 200, seed).ms;
    }
    CHECK(drafted_ms < 1.07 * plain_ms);
  }
  // Where drafts are worth twice as much it is not asked.
  DraftLength length(16, false, true);
  const Run flat = run(length, {0.9, 0, kFlat}, 100);
  CHECK(flat.drafted_passes + 1 == flat.passes);
}

TEST_CASE("DraftLength: a step that was slow by chance does not end drafting") {
  DraftLength length(8, false, true);
  const World world{0.8, 0, kFlat};
  run(length, world, 300);
  PassRecord slow;
  slow.asked = slow.drafted = slow.depth = 8;
  slow.accepted = 3;
  slow.verify_ms = 5000;
  length.record(slow);
  CHECK(length.next() > 0);
  CHECK_FALSE(length.has_given_up());
}

}  // namespace
}  // namespace outrigger::testing
