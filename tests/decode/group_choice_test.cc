// GroupChoice: on made-up machines, that it ends with the faster of the two, and what finding out costs.
#include "src/decode/group_choice.h"

#include <algorithm>
#include <random>

#include "tests/support/catch.h"

namespace outrigger::testing {
namespace {

/// A pass of n texts takes pass_ms + n * pass_text_ms, a draft draft_ms + n * draft_text_ms.
struct Machine {
  double pass_ms = 100, pass_text_ms = 1, draft_ms = 1, draft_text_ms = 1;
  double tokens_of_text = 3;

  double pass(double texts) const { return pass_ms + texts * pass_text_ms; }
  double draft(double texts) const { return draft_ms + texts * draft_text_ms; }
};
constexpr double kTexts = 16;

CycleRecord cycle(const Machine& machine, uint32_t groups, double noise) {
  const double texts = kTexts / groups, draft = machine.draft(texts), pass = machine.pass(texts);
  const double ms = noise * (groups == 1 ? draft + pass : std::max(draft, pass));
  return {noise * (groups == 1 ? draft : std::max(0.0, draft - pass)), ms, static_cast<uint32_t>(texts * machine.tokens_of_text), groups};
}

double rate(const Machine& machine, uint32_t groups) {
  const CycleRecord record = cycle(machine, groups, 1);
  return record.tokens / record.ms;
}

/// Share of the better one's rate that it comes to in so many passes.
double part_of_best(const Machine& machine, int passes, GroupChoice* choice) {
  std::mt19937 random(3);
  std::uniform_real_distribution<double> noise(0.95, 1.05);
  double ms = 0, tokens = 0;
  for (int i = 0; i < passes; ++i) {
    const CycleRecord record = cycle(machine, choice->next(), noise(random));
    ms += record.ms;
    tokens += record.tokens;
    choice->record(record);
  }
  return tokens / ms / std::max(rate(machine, 1), rate(machine, 2));
}

TEST_CASE("GroupChoice: over all costs it comes within a twentieth of the better way, and ends with that where it is a tenth better") {
  for (const double pass_ms : {10.0, 100.0, 400.0}) {
    for (const double pass_text_ms : {0.1, 4.0, 20.0}) {
      for (const double draft_ms : {1.0, 30.0, 300.0}) {
        for (const double draft_text_ms : {0.1, 5.0, 25.0}) {
          CAPTURE(pass_ms, pass_text_ms, draft_ms, draft_text_ms);
          const Machine machine{pass_ms, pass_text_ms, draft_ms, draft_text_ms};
          GroupChoice choice(0, pass_ms);
          CHECK(part_of_best(machine, 1000, &choice) > 0.95);
          const double gain = rate(machine, 2) / rate(machine, 1);
          if (gain > 1.1) CHECK(choice.next() == 2);
          if (gain < 0.9) CHECK(choice.next() == 1);
        }
      }
    }
  }
}

TEST_CASE("GroupChoice: two are faster just where drafting for all takes longer than the least pass, and a pass than the least draft") {
  for (const double pass_ms : {10.0, 100.0}) {
    for (const double pass_text_ms : {0.5, 10.0}) {
      for (const double draft_ms : {1.0, 50.0, 500.0}) {
        for (const double draft_text_ms : {0.1, 3.0, 30.0}) {
          const Machine machine{pass_ms, pass_text_ms, draft_ms, draft_text_ms};
          CAPTURE(pass_ms, pass_text_ms, draft_ms, draft_text_ms);
          CHECK((rate(machine, 2) > rate(machine, 1)) == (pass_ms < machine.draft(kTexts) && draft_ms < machine.pass(kTexts)));
        }
      }
    }
  }
}

TEST_CASE("GroupChoice: the least pass of a plan is what its steps take without what grows with their tokens, and what they read") {
  const Machine machine{10, 20, 1, 1};
  Plan plan;
  plan.decode.tokens = 16, plan.decode.predicted_ms = machine.pass(16);
  plan.prefill.tokens = 512, plan.prefill.predicted_ms = machine.pass(512);
  CHECK(least_pass_ms(plan) == Approx(10));
  plan.decode.lanes.disk_ms = 250;
  CHECK(least_pass_ms(plan) == Approx(250));
  plan.decode.lanes.disk_ms = 400;
  CHECK(least_pass_ms(plan) == Approx(machine.pass(16)));
  plan.prefill.tokens = 16;
  CHECK(least_pass_ms(plan) == Approx(machine.pass(16)));
}

TEST_CASE("GroupChoice: one group or two that are asked for stay, and without drafts nothing is tried") {
  const Machine dear{10, 1, 300, 10};
  for (const uint32_t wanted : {1u, 2u}) {
    GroupChoice choice(wanted, 10);
    for (int i = 0; i < 100; ++i) {
      CHECK(choice.next() == wanted);
      choice.record(cycle(dear, wanted, 1));
    }
  }
  GroupChoice choice(0, 10);
  for (int i = 0; i < 100; ++i) {
    CHECK(choice.next() == 1);
    choice.record({0, 10, 16});
  }
}

TEST_CASE("GroupChoice: where drafting takes much longer than reading the weights even a short text alternates") {
  const Machine equal{40, 3, 40, 3};
  GroupChoice choice(0, 40);
  choice.record({0, equal.pass(kTexts), 16});  // the first pass has no draft
  CHECK(part_of_best(equal, 20, &choice) > 0.96);
  CHECK(choice.next() == 2);
}

TEST_CASE("GroupChoice: drafting nothing is a third way, beside which alternating that beats going together is not tried") {
  const Machine equal{40, 3, 40, 3};
  const CycleRecord drafted = cycle(equal, 1, 1);
  for (const bool plain_is_fast : {false, true}) {
    GroupChoice choice(0, 40);
    const double plain_ms = kTexts * (plain_is_fast ? drafted.ms / drafted.tokens / 2 : drafted.ms / drafted.tokens);
    choice.record({0, plain_ms, static_cast<uint32_t>(kTexts)});
    for (int i = 0; i < 10 && choice.next() == 1; ++i) choice.record(drafted);
    CHECK(choice.next() == (plain_is_fast ? 1 : 2));
  }
}

TEST_CASE("GroupChoice: alternating that is far off is dropped after six passes, and where nothing is drafted at once") {
  const Machine equal{40, 3, 40, 3};
  GroupChoice choice(0, 40);
  choice.record(cycle(equal, 1, 1));
  REQUIRE(choice.next() == 2);
  for (int i = 0; i < 6; ++i) {
    CHECK(choice.next() == 2);
    choice.record(cycle(equal, 1, 1));  // of going together, as where one group has no text: tells nothing
    choice.record(cycle(equal, 2, 2));  // twice as slow as it should be
  }
  CHECK(choice.next() == 1);
  GroupChoice stopped(0, 40), wanted(2, 40);
  stopped.record(cycle(equal, 1, 1));
  REQUIRE(stopped.next() == 2);
  stopped.stop_alternating();
  wanted.stop_alternating();
  CHECK(stopped.next() == 1);
  CHECK(wanted.next() == 2);
}

TEST_CASE("GroupChoice: what has changed is found out later") {
  const Machine cheap{100, 1, 80, 1}, dear{100, 1, 80, 20};
  GroupChoice choice(0, 100);
  part_of_best(cheap, 400, &choice);
  CHECK(choice.next() == 1);
  part_of_best(dear, 400, &choice);
  CHECK(choice.next() == 2);
  part_of_best(cheap, 1200, &choice);
  CHECK(choice.next() == 1);
}

}  // namespace
}  // namespace outrigger::testing
