// What a draft is expected to give: the length and the number of groups that are worth most, and none where a draft only takes time.
#include <outrigger/draft_forecast.h>

#include <algorithm>
#include <cmath>

#include "tests/support/random_shape.h"
#include "tests/support/catch.h"

namespace outrigger {
namespace {

constexpr uint64_t operator""_MiB(unsigned long long count) { return count << 20; }

struct Planned {
  StepShape shape = small_model();
  MachineProfile machine = two_cores();
  Plan plan;

  Planned(uint64_t budget, uint32_t batch, uint32_t draft_tokens = 8) {
    Workload workload = workload_of(64, 64, batch);
    workload.draft_tokens = draft_tokens;
    auto made = PlacementPlanner::plan(shape, machine, {budget, 0}, workload);
    REQUIRE(made.is_ok());
    plan = std::move(made).value();
    REQUIRE(plan.draft_tokens == draft_tokens);
  }
  DraftForecast forecast(const DraftExpectation& draft) const {
    const auto made = forecast_draft(plan, shape, machine, draft);
    CAPTURE(made.status().to_string());
    REQUIRE(made.is_ok());
    return made.value();
  }
  double pass_ms(uint32_t sessions, uint32_t drafted) const {
    const uint32_t tokens = sessions * (drafted + 1);
    return predict_step(plan, shape, machine, tokens, static_cast<uint32_t>(plan.decode.position), tokens, sessions).value().predicted_ms;
  }
};

DraftExpectation draft_of(double step_ms, double chance_each) {
  DraftExpectation draft{step_ms, step_ms, {}};
  for (size_t i = 0; i < kMostDraftTokens; ++i) draft.accepted[i] = std::pow(chance_each, static_cast<double>(i + 1));
  return draft;
}

TEST_CASE("Draft forecast: the length is the one with most tokens for its time") {
  const Planned planned(40_MiB, 1);
  for (const double chance : {0.3, 0.6, 0.9}) {
    for (const double step_ms : {0.05, 1.0, 4.0}) {
      const DraftForecast got = planned.forecast(draft_of(step_ms, chance));
      double best = 1000 / planned.pass_ms(1, 0), best_tokens = 1;
      uint32_t length = 0;
      for (uint32_t n = 1; n <= 8; ++n) {
        // Of a chain in which each token is right with the same chance.
        const double tokens = (1 - std::pow(chance, n + 1.0)) / (1 - chance), rate = 1000 * tokens / (planned.pass_ms(1, n) + n * step_ms);
        if (rate > best) best = rate, best_tokens = tokens, length = n;
      }
      CAPTURE(chance, step_ms);
      CHECK(got.tokens == length);
      CHECK(got.groups == 1);
      CHECK(got.tokens_per_s == Approx(best));
      CHECK(got.tokens_per_pass == Approx(best_tokens));
      CHECK(got.plain_tokens_per_s == Approx(1000 / planned.pass_ms(1, 0)));
    }
  }
}

TEST_CASE("Draft forecast: what is never right is not drafted, and what always is and takes nothing fills the room") {
  const Planned planned(40_MiB, 1);
  const DraftForecast wrong = planned.forecast(draft_of(0.001, 0));
  CHECK(wrong.tokens == 0);
  CHECK(wrong.tokens_per_pass == 1);
  CHECK(wrong.tokens_per_s == wrong.plain_tokens_per_s);
  const DraftForecast right = planned.forecast(draft_of(0.001, 1));
  CHECK(right.tokens == 8);
  CHECK(right.tokens_per_pass == Approx(9));
}

TEST_CASE("Draft forecast: two groups where drafts take as long as the disk, and one where the host is what binds or drafts are short") {
  const Planned streams(20_MiB, 4, 4), resident(400_MiB, 4, 4);
  const double disk_ms = streams.pass_ms(2, 4);
  // The host has nothing to do for most of a pass: half of the drafts take as long as that.
  const DraftForecast hidden = streams.forecast({disk_ms / 4, disk_ms / 8, draft_of(1, 0.9).accepted});
  CHECK(hidden.groups == 2);
  CHECK(hidden.tokens > 0);
  const DraftForecast brief = streams.forecast({disk_ms / 100, disk_ms / 150, draft_of(1, 0.9).accepted});
  CHECK(brief.groups == 1);
  CHECK(brief.tokens > 0);
  const double host_ms = resident.pass_ms(2, 4);
  CHECK(resident.forecast({host_ms / 4, host_ms / 8, draft_of(1, 0.9).accepted}).groups == 1);
  // A device that does nothing else drafts meanwhile, whatever the host is busy with.
  CHECK(resident.forecast({host_ms / 4, host_ms / 8, draft_of(1, 0.9).accepted, true}).groups == 2);
}

TEST_CASE("Draft forecast: random plans are never expected to lose by a draft, nor to lose by a better one") {
  uint64_t made = 0;
  for (uint64_t seed = 0; seed < seeds(300); ++seed) {
    Random random(seed);
    const StepShape shape = random_shape(random);
    const MachineProfile machine = random_machine(random);
    Workload workload = random_workload(random);
    workload.draft_tokens = static_cast<uint32_t>(pick(random, 1, kMostDraftTokens));
    const auto plan = PlacementPlanner::plan(shape, machine, {pick(random, 1 << 20, 1 << 26), 0}, workload);
    if (!plan.is_ok()) continue;
    ++made;
    const double chance = static_cast<double>(pick(random, 0, 90)) / 100,
                 step_ms = plan.value().decode.predicted_ms * static_cast<double>(pick(random, 1, 100)) / 100;
    CAPTURE(seed, chance, step_ms);
    const auto worse = forecast_draft(plan.value(), shape, machine, draft_of(step_ms, chance));
    const auto better = forecast_draft(plan.value(), shape, machine, draft_of(step_ms / 2, chance + 0.1));
    CAPTURE(worse.status().to_string());
    REQUIRE(worse.is_ok());
    REQUIRE(better.is_ok());
    REQUIRE(worse.value().tokens <= plan.value().draft_tokens);
    REQUIRE(worse.value().tokens_per_s >= worse.value().plain_tokens_per_s);
    REQUIRE(better.value().tokens_per_s >= worse.value().tokens_per_s);
    REQUIRE(better.value().plain_tokens_per_s == worse.value().plain_tokens_per_s);
  }
  REQUIRE(made > seeds(300) / 3);
}

TEST_CASE("Draft forecast: times and chances that are none are named") {
  const Planned planned(40_MiB, 2);
  const auto refused = [&](const DraftExpectation& draft) {
    const auto made = forecast_draft(planned.plan, planned.shape, planned.machine, draft);
    REQUIRE(made.status().code() == StatusCode::kInvalidArgument);
    return made.status().message();
  };
  DraftExpectation draft = draft_of(1, 0.5);
  for (const double ms : {0.0, -1.0, std::nan(""), HUGE_VAL}) {
    draft.step_ms = ms;
    CHECK(refused(draft).find("need times above 0") != std::string::npos);
    draft = draft_of(1, 0.5);
    draft.half_step_ms = ms;
    CHECK(refused(draft).find("need times above 0") != std::string::npos);
    draft = draft_of(1, 0.5);
  }
  draft.accepted[3] = 1.5;
  CHECK(refused(draft).find("draft.accepted[3]") != std::string::npos);
  draft.accepted[3] = std::nan("");
  CHECK(refused(draft).find("draft.accepted[3]") != std::string::npos);
  Plan other = planned.plan;
  other.tensors.pop_back();
  CHECK(forecast_draft(other, planned.shape, planned.machine, draft_of(1, 0.5)).status().code() == StatusCode::kInvalidArgument);
}

TEST_CASE("Draft forecast: a draft that was never tried is right with the same chance at each place") {
  const auto accepted = unknown_acceptance();
  CHECK(accepted[0] == Approx(0.6));
  for (size_t i = 1; i < accepted.size(); ++i) CHECK(accepted[i] == Approx(0.6 * accepted[i - 1]));
}

}  // namespace
}  // namespace outrigger
