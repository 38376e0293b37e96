// Many texts at once: who is in a step, who takes a place that is free, and what came of each.
#include <fmt/format.h>
#include <outrigger/batch.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <new>
#include <optional>

#include "src/base/macros.h"
#include "src/decode/batch_sequence.h"

namespace outrigger {
namespace {

using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point start) { return std::chrono::duration<double, std::milli>(Clock::now() - start).count(); }

// One call of generate_batch().
class BatchRun {
 public:
  BatchRun(Engine::Impl& engine, std::span<const BatchRequest> requests, const BatchOptions& options, float branch_share, size_t sequences)
      : engine_(engine), requests_(requests), options_(options), step_(engine, sequences, branch_share) {
    results_.resize(requests.size());
    joined_.reserve(sequences);
  }

  void add_place(Session session) { places_.emplace_back(std::move(session)); }

  BatchResult run() {
    const Clock::time_point start = Clock::now();
    while (!options_.cancel.is_cancelled()) {
      admit();
      if (!share_step()) break;
      run_step();
    }
    stop_all();
    report_.total_ms = ms_since(start);
    if (report_.total_ms > 0) report_.total_tokens_per_s = static_cast<double>(report_.generated_tokens) * 1000 / report_.total_ms;
    BatchResult result;
    result.report = report_;
    result.results.reserve(results_.size());
    for (std::optional<Result<GenerateResult>>& made : results_) result.results.push_back(std::move(*made));
    return result;
  }

 private:
  // Fills the places that are free with what waits. A request that cannot begin has its result at once.
  void admit() {
    for (BatchSequence& place : places_) {
      stop_if_cancelled(place);
      while (place.is_free() && next_request_ < requests_.size()) {
        const size_t index = next_request_++;
        if (const Status status = place.start(index, requests_[index]); !status.is_ok()) {
          settle(index, status);
          continue;
        }
        report_.prompt_tokens += requests_[index].prompt.size();
        stop_if_cancelled(place);
      }
    }
  }

  void stop_if_cancelled(BatchSequence& place) {
    if (!place.is_free() && place.is_cancelled()) settle(place.index(), place.stop(StopReason::kCancelled));
  }

  BatchSequence& in_turn(size_t i) { return places_[(turn_ + i) % places_.size()]; }

  // What each has in the next step: a token of everyone, then more of the prompts, then drafts, as far as there is room. False: nobody is
  // left.
  bool share_step() {
    uint32_t tokens = engine_.plan.step_tokens, rows = std::min(engine_.plan.logit_rows, engine_.plan.step_tokens);
    const auto take = [&](BatchSequence& place, uint32_t count) {
      const bool has_row = place.share.tokens + count == place.pending() && place.wants_row();
      if (has_row && rows == 0) --count;
      place.share.tokens += count;
      tokens -= count;
      rows -= has_row && rows > 0 ? 1 : 0;
    };
    size_t writing = 0, first_left_out = 0;
    bool is_someone_left_out = false;
    for (size_t i = 0; i < places_.size(); ++i) {
      BatchSequence& place = in_turn(i);
      place.share = {};
      if (place.is_free()) continue;
      if (tokens > 0) take(place, 1);
      if (place.share.tokens > 0) {
        writing += place.is_reading() ? 0 : 1;
      } else if (!is_someone_left_out) {
        is_someone_left_out = true;
        first_left_out = i;
      }
    }
    for (size_t i = 0; i < places_.size() && tokens > 0; ++i) {
      BatchSequence& place = in_turn(i);
      if (place.share.tokens > 0 && place.share.tokens < place.pending())
        take(place, std::min(tokens, place.pending() - place.share.tokens));
    }
    if (writing > 0) {
      const auto each = static_cast<uint32_t>(std::min(tokens, rows) / writing);
      for (BatchSequence& place : places_) place.share.drafted = place.share.tokens > 0 && !place.is_reading() ? each : 0;
    }
    turn_ = (turn_ + first_left_out) % places_.size();
    return std::any_of(places_.begin(), places_.end(), [](const BatchSequence& place) { return !place.is_free(); });
  }

  void run_step() {
    step_.clear();
    joined_.clear();
    for (BatchSequence& place : places_) {
      if (place.share.tokens == 0) continue;
      place.join(step_);
      joined_.push_back(&place);
    }
    const Clock::time_point start = Clock::now();
    const Status status =
        step_.run(options_.cancel, [this](size_t index, size_t row, std::span<const float> logits) { joined_[index]->judge(row, logits); });
    const double step_ms = ms_since(start);
    if (status.is_ok()) {
      ++report_.steps;
      report_.step_tokens += step_.tokens();
      report_.most_at_once = std::max(report_.most_at_once, static_cast<uint32_t>(step_.sessions()));
    }
    for (BatchSequence* const place : joined_) {
      const size_t index = place->index();
      if (std::optional<Result<GenerateResult>> result = place->end_step(status, step_ms)) settle(index, std::move(*result));
    }
  }

  void settle(size_t index, Result<GenerateResult> result) {
    if (result.is_ok()) report_.generated_tokens += result.value().tokens.size();
    results_[index] = std::move(result);
    if (options_.on_result) options_.on_result(index, *results_[index]);
  }

  // After cancelling; otherwise there is nothing to stop.
  void stop_all() {
    for (BatchSequence& place : places_) {
      if (!place.is_free()) settle(place.index(), place.stop(StopReason::kCancelled));
    }
    for (; next_request_ < requests_.size(); ++next_request_) {
      GenerateResult none;
      none.stop_reason = StopReason::kCancelled;
      settle(next_request_, std::move(none));
    }
  }

  Engine::Impl& engine_;
  const std::span<const BatchRequest> requests_;
  const BatchOptions& options_;
  std::deque<BatchSequence> places_;  // where each stays
  BatchStep step_;
  std::vector<BatchSequence*> joined_;  // the step, in its order
  std::vector<std::optional<Result<GenerateResult>>> results_;
  size_t next_request_ = 0;
  size_t turn_ = 0;  // the place that has the first share of the next step
  BatchReport report_;
};

}  // namespace

Status BatchOptions::validate() const {
  if (branch_share == SessionOptions::kAsPlanned || (branch_share >= 0 && branch_share <= 1)) return {};
  return Status(StatusCode::kInvalidArgument,
                fmt::format("branch_share: got {}, need 0 to 1, or {} as planned", branch_share, SessionOptions::kAsPlanned));
}

Result<BatchResult> generate_batch(const Engine& engine, std::span<const BatchRequest> requests, const BatchOptions& options) try {
  OTR_TRY(options.validate());
  const Plan& plan = engine.plan();
  if (options.sequences > plan.batch) {
    return Status(
        StatusCode::kInvalidArgument,
        fmt::format("sequences: got {}, need at most the plan's batch of {}; plan for a larger batch", options.sequences, plan.batch));
  }
  const size_t sequences = std::min<size_t>(options.sequences == 0 ? plan.batch : options.sequences, requests.size());
  if (sequences == 0) return BatchResult();
  const float share = options.branch_share == SessionOptions::kAsPlanned ? plan.branch_share : options.branch_share;
  BatchRun run(*engine.impl(), requests, options, share, sequences);
  for (size_t i = 0; i < sequences; ++i) {
    OTR_ASSIGN(Session session, Session::open(engine, {options.context_tokens, share}));
    run.add_place(std::move(session));
  }
  return run.run();
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

}  // namespace outrigger
