// What a draft model takes: bytes, and the time of its steps, beside what the planner says of the same model alone.
#include "src/decode/draft_plan.h"

#include <outrigger/draft_forecast.h>
#include <outrigger/speculation.h>

#include "tests/support/catch.h"
#include "tests/support/engines.h"
#include "tests/support/random_shape.h"
#include "tests/support/similar_draft.h"

namespace outrigger::testing {
namespace {

constexpr uint64_t kMemoryBytes = uint64_t{1} << 30;

double planned_step_ms(const Model& model, const MachineProfile& machine, const DraftSteps& steps) {
  Workload workload;
  workload.batch = steps.texts;
  workload.context_tokens = steps.context_tokens;
  workload.new_tokens = steps.new_tokens;
  workload.prompt_tokens = steps.context_tokens - steps.new_tokens;
  return must(PlacementPlanner::plan(must(model.step_shape()), machine, {Budgets::kUnlimited, 0}, workload)).decode.predicted_ms;
}

TEST_CASE("Draft's steps: on the host they take what a plan with everything resident predicts, whether there is a device or not") {
  const SimilarDraft files(0);
  for (const DraftSteps steps : {DraftSteps{160, 32, 1}, DraftSteps{64, 64 - 1, 1}, DraftSteps{160, 32, 5}}) {
    CAPTURE(steps.context_tokens, steps.texts);
    const double planned = planned_step_ms(files.target, two_cores(), steps);
    CHECK(must(draft_model_step_ms(files.target, two_cores(), steps, false)) == Approx(planned));
    CHECK(must(draft_model_step_ms(files.target, with_device(two_cores(), kMemoryBytes), steps, false)) == Approx(planned));
  }
}

TEST_CASE("Draft's steps: on a device they take its rates, so twice as fast a one is faster") {
  const SimilarDraft files(0);
  MachineProfile slow = with_device(two_cores(), kMemoryBytes), fast = slow;
  fast.device_stream_bytes.per_s *= 2;
  fast.device_int8_ops.per_s *= 2;
  fast.device_small_batch_ops.per_s *= 2;
  fast.device_step_overhead_us /= 2;
  const DraftSteps steps{160, 32, 1};
  const double on_slow = must(draft_model_step_ms(files.target, slow, steps, true)),
               on_fast = must(draft_model_step_ms(files.target, fast, steps, true));
  CHECK(on_fast < on_slow);
  CHECK(on_fast > on_slow / 2);  // what passes over the link does so as before
  slow.host_stream_bytes.per_s /= 1000;
  slow.host_small_batch_ops.per_s /= 1000;
  CHECK(must(draft_model_step_ms(files.target, slow, steps, true)) < must(draft_model_step_ms(files.target, slow, steps, false)));
}

TEST_CASE("Draft's steps: more texts and longer ones take no less time, and a context beyond the model's counts as its own") {
  const SimilarDraft files(0);
  const MachineProfile machine = with_device(two_cores(), kMemoryBytes);
  for (const bool on_device : {false, true}) {
    const auto step_ms = [&](const DraftSteps& steps) { return must(draft_model_step_ms(files.target, machine, steps, on_device)); };
    CHECK(step_ms({64, 16, 1}) <= step_ms({160, 16, 1}));
    CHECK(step_ms({64, 16, 1}) <= step_ms({64, 16, 4}));
    CHECK(step_ms({1'000'000'000, 16, 1}) == step_ms({static_cast<uint32_t>(files.target.info().context_tokens), 16, 1}));
    CHECK(step_ms({64, 1'000'000'000, 1}) == step_ms({64, 63, 1}));
  }
}

TEST_CASE("An untried draft: expected are the steps of all texts and of half of them, and what is believed of any draft") {
  const SimilarDraft files(0);
  const MachineProfile machine = with_device(two_cores(), kMemoryBytes);
  for (const bool on_device : {false, true}) {
    const auto step_ms = [&](uint32_t texts) { return must(draft_model_step_ms(files.target, machine, {160, 32, texts}, on_device)); };
    const DraftExpectation five = must(untried_draft(files.target, machine, {160, 32, 5}, on_device)),
                           one = must(untried_draft(files.target, machine, {160, 32, 1}, on_device));
    CHECK(five.step_ms == step_ms(5));
    CHECK(five.half_step_ms == step_ms(3));
    CHECK(five.accepted == unknown_acceptance());
    CHECK(five.on_device == on_device);
    CHECK(five.read_ms > 0);
    CHECK(five.read_ms < five.step_ms);  // many at once
    CHECK(one.step_ms == step_ms(1));
    CHECK(one.half_step_ms == 0);
  }
  CHECK(untried_draft(files.target, two_cores(), {160, 32, 5}, true).status().code() == StatusCode::kInvalidArgument);
  CHECK(untried_draft(files.target, two_cores(), {160, 32, 0}, false).status().code() == StatusCode::kInvalidArgument);
}

TEST_CASE("Draft's steps and bytes: nothing of something is refused by what was got") {
  const SimilarDraft files(0);
  const auto code = [&](const MachineProfile& machine, const DraftSteps& steps, bool on_device) {
    return draft_model_step_ms(files.target, machine, steps, on_device).status().code();
  };
  CHECK(code(two_cores(), {0, 0, 1}, false) == StatusCode::kInvalidArgument);
  CHECK(code(two_cores(), {64, 16, 0}, false) == StatusCode::kInvalidArgument);
  CHECK(code(two_cores(), {64, 16, 1}, true) == StatusCode::kInvalidArgument);
  MachineProfile without_threads = two_cores();
  without_threads.threads = 0;
  CHECK(code(without_threads, {64, 16, 1}, false) == StatusCode::kInvalidArgument);
  CHECK(draft_model_bytes(files.target, 0, 2).status().message() ==
        "draft: got 0 tokens of context, 1 texts, 2 threads, need at least 1 of each");
  CHECK(draft_model_device_bytes(files.target, 64, 2, 0).status().message() ==
        "draft: got 64 tokens of context, 1 texts, 2 threads and 0 of the device, need at least 1 of each");
}

}  // namespace
}  // namespace outrigger::testing
