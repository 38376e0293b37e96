// `bench`: runs, and predictions beside them.
#include "src/tool/bench_runs.h"

#include <fmt/format.h>
#include <outrigger/batch.h>

#include <algorithm>
#include <span>

#include "src/tool/interrupt.h"
#include "src/tool/loading.h"

namespace outrigger::tool {
namespace {

// Enough for five samples of each rate, and shorter than most of the tests between.
constexpr double kSecondsPerLane = 0.05;

}  // namespace

std::string BenchTest::name() const {
  const char* const prefix = kind == BenchKind::kPrompt ? "pp" : kind == BenchKind::kGenerate ? "tg" : "verify";
  return fmt::format("{}{}", prefix, tokens);
}

uint32_t sessions_at_once(const Plan& plan, uint32_t batch) { return std::min({batch, plan.step_tokens, plan.logit_rows}); }

BenchRuns::BenchRuns(std::vector<Session>& sessions, uint32_t vocabulary, uint64_t seed)
    : sessions_(sessions), random_(seed), ids_(0, static_cast<Token>(vocabulary) - 1) {}

Result<double> BenchRuns::run(const BenchTest& test) {
  for (uint32_t i = 0; i < test.batch; ++i) {
    if (Status status = to_depth(sessions_[i], test.depth); !status.is_ok()) return status;
  }
  const std::vector<Token> tokens = random_tokens(test.all_tokens());
  const Stopwatch watch;
  Status status;
  if (test.kind == BenchKind::kPrompt) status = sessions_[0].prefill(tokens, {}, interrupt_token());
  if (test.kind == BenchKind::kVerify)
    status = sessions_[0].evaluate(
        tokens, [](size_t, std::span<const float>) {}, interrupt_token());
  if (test.kind == BenchKind::kGenerate) status = generate(tokens, test.batch);
  if (!status.is_ok()) return status;
  return watch.ms() * 1e6;
}

Status BenchRuns::generate(const std::vector<Token>& tokens, uint32_t batch) {
  std::vector<Session*> together;
  for (uint32_t i = 0; i < batch; ++i) together.push_back(&sessions_[i]);
  for (size_t i = 0; i < tokens.size(); i += batch) {
    if (was_interrupted()) return Status(StatusCode::kCancelled, "stopped by Ctrl-C");
    const std::span<const Token> next = std::span(tokens).subspan(i, batch);
    if (Status status = batch == 1 ? sessions_[0].step(next[0]) : step_together(together, next, interrupt_token()); !status.is_ok())
      return status;
  }
  return Status();
}

// The KV entries in front are computed once for all runs at a depth.
Status BenchRuns::to_depth(Session& session, uint32_t depth) {
  const auto held = static_cast<uint32_t>(session.tokens().size());
  if (Status status = session.truncate(std::min(depth, held)); !status.is_ok()) return status;
  if (depth <= held) return Status();
  return session.prefill(random_tokens(depth - held), {}, interrupt_token());
}

std::vector<Token> BenchRuns::random_tokens(size_t count) {
  std::vector<Token> tokens(count);
  for (Token& token : tokens) token = ids_(random_);
  return tokens;
}

BenchPredictions::BenchPredictions(const Plan& plan, const StepShape& shape, const ProfileOptions& profile)
    : plan_(plan), shape_(shape), profile_(profile) {
  profile_.seconds_per_lane = kSecondsPerLane;
}

Result<double> BenchPredictions::measure(const BenchTest& test) const {
  const auto machine = measure_machine(profile_);
  if (!machine.is_ok()) return machine.status();
  const auto ms = predicted_ms(test, machine.value());
  if (!ms.is_ok()) return ms;
  return ms.value() * 1e6;
}

// Of generated tokens the one in the middle stands for all; the others are cut into steps as a session does it.
Result<double> BenchPredictions::predicted_ms(const BenchTest& test, const MachineProfile& machine) const {
  if (test.kind == BenchKind::kGenerate) {
    double all_ms = 0;
    for (uint32_t done = 0, some; done < test.batch; done += some) {
      some = sessions_at_once(plan_, test.batch - done);
      const auto step = predict_step(plan_, shape_, machine, some, test.depth + test.tokens / 2, some, some);
      if (!step.is_ok()) return step.status();
      all_ms += step.value().predicted_ms;
    }
    return all_ms * test.tokens;
  }
  const uint32_t chunk = test.kind == BenchKind::kVerify ? std::min(plan_.step_tokens, plan_.logit_rows) : plan_.step_tokens;
  double sum_ms = 0;
  for (uint32_t done = 0, tokens; done < test.tokens; done += tokens) {
    tokens = std::min(chunk, test.tokens - done);
    const uint32_t rows = test.kind == BenchKind::kVerify ? tokens : done + tokens == test.tokens ? 1 : 0;
    const auto step = predict_step(plan_, shape_, machine, tokens, test.depth + done, rows);
    if (!step.is_ok()) return step.status();
    sum_ms += step.value().predicted_ms;
  }
  return sum_ms;
}

Result<BenchSamples> measure(BenchRuns& runs, const BenchTest& test, uint32_t repeat, const BenchPredictions* predictions) {
  BenchTest warm_up = test;
  if (test.kind == BenchKind::kGenerate) warm_up.tokens = 1;
  if (const auto unused = runs.run(warm_up); !unused.is_ok()) return unused.status();
  double before_ns = 0;
  if (predictions != nullptr) {
    const auto before = predictions->measure(test);
    if (!before.is_ok()) return before.status();
    before_ns = before.value();
  }
  BenchSamples samples;
  for (uint32_t i = 0; i < repeat; ++i) {
    const auto ns = runs.run(test);
    if (!ns.is_ok()) return ns.status();
    samples.ns.push_back(ns.value());
    if (predictions == nullptr) continue;
    const auto after = predictions->measure(test);
    if (!after.is_ok()) return after.status();
    samples.predicted_ns.push_back((before_ns + after.value()) / 2);
    before_ns = after.value();
  }
  return samples;
}

}  // namespace outrigger::tool
