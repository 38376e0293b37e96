// BranchGovernor: on made-up machines, the share it settles on, what that costs on average, and how soon it follows a change.
#include "src/decode/branch_governor.h"

#include <cmath>
#include <functional>
#include <random>
#include <set>
#include <tuple>

#include "tests/support/catch.h"

namespace outrigger::testing {
namespace {

/// Time of a step by its share and its number, without noise.
using Machine = std::function<double(double share, int step)>;

struct Noise {
  double spread = 0;   ///< times lie evenly within this part of the true one, above and below
  double hiccups = 0;  ///< share of steps that take three times as long
  double slices = 0;   ///< lost in 10 ms, each of 25 ms
  uint32_t seed = 1;
};

/// A governor on a machine, step after step.
class Run {
 public:
  Run(double max_slowdown, float share, Machine machine, Noise noise = {})
      : governor_(max_slowdown, share), machine_(std::move(machine)), noise_(noise), random_(noise.seed) {}

  struct Stretch {
    double slowdown = 0, share = 0;  ///< means
    double bare = 0;                 ///< part of the steps that used nothing
  };
  Stretch steps(int count) {
    double with = 0, without = 0, share = 0;
    int bare = 0;
    for (int i = 0; i < count; ++i, ++step_) {
      const float used = governor_.next_share();
      with += machine_(used, step_);
      without += machine_(0, step_);
      share += used;
      bare += used == 0;
      shares_.insert(used);
      governor_.record(noisy(machine_(used, step_)));
    }
    return {with / without - 1, share / count, static_cast<double>(bare) / count};
  }
  /// Steps until it has settled on the share; at most `most`.
  int steps_until(float share, int most) {
    int count = 0;
    while (count < most && governor_.settled_share() != share) steps(1), ++count;
    return count;
  }

  const BranchGovernor& governor() const { return governor_; }
  const std::set<float>& shares() const { return shares_; }

 private:
  double noisy(double ms) {
    std::uniform_real_distribution<double> uniform(0, 1);
    const double even = ms * (1 + noise_.spread * (2 * uniform(random_) - 1));
    if (uniform(random_) < noise_.hiccups) return 3 * even;
    return even + 25 * (noise_.slices > 0 ? std::poisson_distribution<int>(noise_.slices * even / 10)(random_) : 0);
  }

  BranchGovernor governor_;
  Machine machine_;
  Noise noise_;
  std::mt19937 random_;
  std::set<float> shares_;
  int step_ = 0;
};

/// Without branches 10 ms, and with all of them `cost` of that more.
Machine linear(double cost) {
  return [cost](double share, int) { return 10 * (1 + cost * share); };
}

/// The largest eighth that costs no more than that.
float largest(const Machine& machine, double max_slowdown, int step = 0) {
  float best = 0;
  for (int i = 1; i <= 8; ++i) {
    if (machine(i / 8.0, step) <= machine(0, step) * (1 + max_slowdown) * 1.0001) best = static_cast<float>(i) / 8;
  }
  return best;
}

constexpr double kBudget = 0.05;

TEST_CASE("BranchGovernor: at constant cost it settles on the largest share that fits, and keeps the budget on average while it learns") {
  for (const double cost : {0.0, 0.02, 0.049, 0.06, 0.08, 0.095, 0.15, 0.19, 0.3, 0.39, 0.6, 1.0}) {
    for (const float begin : {1.0f, 0.5f, 0.0f}) {
      CAPTURE(cost, begin);
      Run run(kBudget, begin, linear(cost));
      CHECK(run.steps(200).slowdown <= kBudget + 0.002);
      CHECK(run.governor().settled_share() == largest(linear(cost), kBudget));
      const Run::Stretch later = run.steps(400);
      CHECK(later.slowdown <= kBudget + 0.001);
      CHECK(run.governor().settled_share() == largest(linear(cost), kBudget));
      CHECK(later.share > largest(linear(cost), kBudget) * 0.93);
      CHECK(run.shares().size() <= 9);
    }
  }
}

TEST_CASE("BranchGovernor: a cost that does not grow with the share is found out too") {
  const Machine handed_over = [](double share, int) { return share == 0 ? 10 : 10.3 + 0.4 * share; };  // 3 % for any, and 4 % for all
  Run run(kBudget, 1, handed_over);
  CHECK(run.steps(200).slowdown <= kBudget);
  CHECK(run.governor().settled_share() == 0.5f);
  Run upwards(kBudget, 0, handed_over);
  CHECK(upwards.steps(300).slowdown <= kBudget);
  CHECK(upwards.governor().settled_share() == 0.5f);
}

TEST_CASE("BranchGovernor: branches that are free beside a device are all used, and bare steps become few") {
  const Machine hidden = [](double share, int) { return std::max(10.0, 9 * share); };
  Run run(kBudget, 1, hidden, {.spread = 0.02});
  CHECK(run.steps(100).bare < 0.12);
  const Run::Stretch later = run.steps(1000);
  CHECK(later.bare < 0.06);
  CHECK(later.share > 0.94);
  Run upwards(kBudget, 0, hidden, {.spread = 0.02});
  CHECK(upwards.steps_until(1, 200) < 60);
}

TEST_CASE("BranchGovernor: where some are free beside a device and more are dear, the largest free share is found between") {
  const Machine partly_hidden = [](double share, int) { return std::max(10.0, 27 * share); };  // three eighths take 10.1 ms, four 13.5
  for (const float begin : {1.0f, 0.0f}) {
    CAPTURE(begin);
    Run run(kBudget, begin, partly_hidden);
    run.steps(300);
    CHECK(run.governor().settled_share() == 0.375f);
  }
}

TEST_CASE("BranchGovernor: branches so dear that none fit are left out, at no more than the budget for trying them") {
  for (const double cost : {1.0, 3.0, 20.0}) {
    CAPTURE(cost);
    Run run(kBudget, 0, linear(cost));
    CHECK(run.steps(200).slowdown <= kBudget);
    CHECK(run.steps(1000).slowdown <= kBudget);
    CHECK(run.governor().settled_share() == 0);
  }
  // A trial that is hopeless ends with its second step, and the next one is far off.
  CHECK(std::lround(Run(kBudget, 0, linear(20.0)).steps(60).share * 60 * 8) == 2);
  // Beginning with all of them takes four steps to find out, and is saved afterwards.
  Run run(kBudget, 1, linear(3.0));
  CHECK(run.steps(8).slowdown > 1);
  CHECK(run.governor().settled_share() == 0);
  CHECK(run.steps(192).slowdown <= kBudget / 4);
}

TEST_CASE("BranchGovernor: when the host becomes busy the share shrinks within some tens of steps, when it is free again it grows back") {
  // A device computes for 10 ms; the host needs 8 ms for all branches, and four times that while it is busy.
  const Machine beside_device = [](double share, int step) { return std::max(10.0, 8 * share * (step >= 300 && step < 700 ? 4 : 1)); };
  for (const Noise noise : {Noise{}, Noise{.spread = 0.03}, Noise{.spread = 0.03, .hiccups = 0.02}}) {
    CAPTURE(noise.spread, noise.hiccups);
    Run run(kBudget, 1, beside_device, noise);
    run.steps(300);
    CHECK(run.governor().settled_share() == 1);
    CHECK(run.steps_until(0.25f, 100) < 60);  // 8 ms, where 3/8 take 12
    Run again(kBudget, 1, beside_device, noise);
    again.steps(300);
    CHECK(again.steps(200).slowdown <= kBudget + 0.025);
    CHECK(again.steps(200).slowdown <= kBudget);
    CHECK(again.governor().settled_share() == 0.25f);
    CHECK(again.steps_until(1, 200) < 90);
    CHECK(again.steps(200).share > 0.9);
  }
}

TEST_CASE("BranchGovernor: branches that a busy host makes dearer are cut where the processor computes all of it") {
  // All steps take twice as long then, and branches three times.
  const Machine busy = [](double share, int step) { return step >= 200 && step < 500 ? 20 * (1 + 0.12 * share) : 10 * (1 + 0.04 * share); };
  Run run(kBudget, 1, busy);
  run.steps(200);
  CHECK(run.governor().settled_share() == 1);
  CHECK(run.steps(200).slowdown <= kBudget + 0.005);
  CHECK(run.steps(100).slowdown <= kBudget);
  CHECK(run.governor().settled_share() == 0.375f);
  CHECK(run.steps_until(1, 200) < 40);
}

TEST_CASE("BranchGovernor: where everything becomes slower alike the share stays") {
  const Machine slower = [](double share, int step) { return (step >= 200 ? 35 : 10) * (1 + 0.04 * share); };
  Run run(kBudget, 1, slower, {.spread = 0.01});
  run.steps(200);
  CHECK(run.governor().settled_share() == 1);
  CHECK(run.steps(200).share > 0.85);
  CHECK(run.governor().settled_share() == 1);
}

TEST_CASE("BranchGovernor: with noise and hiccups the average stays near the budget and the share near the largest") {
  double early = 0, late = 0, share = 0;
  constexpr int kSeeds = 20;
  for (uint32_t seed = 1; seed <= kSeeds; ++seed) {
    CAPTURE(seed);
    Run run(kBudget, 1, linear(0.1), {.spread = 0.08, .hiccups = 0.03, .seed = seed});
    const Run::Stretch first = run.steps(200), later = run.steps(400);
    CHECK(first.slowdown <= kBudget + 0.045);
    CHECK(later.slowdown <= kBudget + 0.035);
    early += first.slowdown / kSeeds;
    late += later.slowdown / kSeeds;
    share += later.share / kSeeds;
  }
  CHECK(early <= kBudget + 0.01);
  CHECK(late <= kBudget + 0.005);
  CHECK(share > 0.4);  // of 0.5 that fit
}

TEST_CASE(
    "BranchGovernor: on a machine where every second step loses time slices the budget is kept, and what fits is told from what does not") {
  constexpr int kSeeds = 20;
  for (const auto& [cost, least, most] : {std::tuple{0.02, 0.35, 1.0}, {0.3, 0.0, 0.3}, {1.0, 0.0, 0.1}}) {
    CAPTURE(cost);
    double share = 0, said = 0, was = 0;
    for (uint32_t seed = 1; seed <= kSeeds; ++seed) {
      Run run(kBudget, 1, linear(cost), {.spread = 0.03, .slices = 0.6, .seed = seed});
      run.steps(100);
      const Run::Stretch later = run.steps(500);
      share += later.share / kSeeds;
      was += later.slowdown / kSeeds;
      said += (run.governor().known_ms() / run.governor().bare_ms() - 1) / kSeeds;
    }
    CAPTURE(share, was, said);
    CHECK(share >= least);
    CHECK(share <= most);
    CHECK(was <= kBudget + 0.03);
    CHECK(said >= 0);
    CHECK(said <= was + 0.1);
  }
}

TEST_CASE("BranchGovernor: what it says of share and slowdown is what was used and what that took") {
  Run run(kBudget, 1, linear(0.08));
  const Run::Stretch all = run.steps(300);
  const BranchGovernor& governor = run.governor();
  CHECK(governor.steps() == 300);
  CHECK(std::abs(governor.share_sum() / 300 - all.share) < 1e-6);
  CHECK(std::abs(governor.known_ms() / governor.bare_ms() - 1 - all.slowdown) < 1e-6);
  BranchGovernor fresh(kBudget, 1);
  fresh.record(10);
  CHECK(fresh.known_ms() == 0);  // nothing is known of what it had taken without
}

TEST_CASE("BranchGovernor: a larger budget uses more") {
  float last = 0;
  for (const double budget : {0.02, 0.1, 0.3}) {
    Run run(budget, 1, linear(0.4));
    run.steps(300);
    CHECK(run.governor().settled_share() == largest(linear(0.4), budget));
    CHECK(run.governor().settled_share() >= last);
    last = run.governor().settled_share();
  }
  CHECK(last == 0.75f);
}

}  // namespace
}  // namespace outrigger::testing
