// Many texts at once: who is in a step, who takes a place that is free, and what came of each.
#include <outrigger/batch.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <new>
#include <optional>

#include "src/base/formatted.h"
#include "src/base/logging.h"
#include "src/base/macros.h"
#include "src/decode/batch_draft_length.h"
#include "src/decode/batch_drafter.h"
#include "src/decode/batch_sequence.h"
#include "src/decode/batch_shares.h"
#include "src/decode/load_follower.h"

namespace outrigger {
namespace {

using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point start) { return std::chrono::duration<double, std::milli>(Clock::now() - start).count(); }

// One call of generate_batch().
class BatchRun {
 public:
  BatchRun(Engine::Impl& engine, std::span<const BatchRequest> requests, const BatchOptions& options, float branch_share, size_t sequences)
      : engine_(engine), requests_(requests), options_(options), step_(engine, sequences, branch_share) {
    if (options.follow_load) follower_ = LoadFollower::make(engine.layout(), *options.follow_load, branch_share);
    results_.resize(requests.size());
    joined_.reserve(sequences);
  }

  void add_place(Session session) {
    session.impl().follower = follower_;
    places_.emplace_back(std::move(session));
    shares_.emplace_back();
  }

  BatchResult run() {
    const Clock::time_point start = Clock::now();
    while (!options_.cancel.is_cancelled()) {
      admit();
      if (!share_out()) break;
      run_step();
    }
    stop_all();
    report_.total_ms = ms_since(start);
    if (report_.total_ms > 0) report_.total_tokens_per_s = static_cast<double>(report_.generated_tokens) * 1000 / report_.total_ms;
    if (follower_) report_.branches = follower_->counts().use();
    BatchResult result;
    result.report = report_;
    result.results.reserve(results_.size());
    for (std::optional<Result<GenerateResult>>& made : results_) result.results.push_back(std::move(*made));
    return result;
  }

 private:
  // Fills the places that are free with what waits. A request that cannot begin has its result at once.
  void admit() {
    for (size_t i = 0; i < places_.size(); ++i) {
      BatchSequence& place = places_[i];
      stop_if_cancelled(place);
      while (place.is_free() && next_request_ < requests_.size()) {
        const size_t index = next_request_++;
        const auto make_draft = [this, i](const GenerateOptions& options) { return source_for(i, options); };
        if (const Status status = place.start(index, requests_[index], make_draft); !status.is_ok()) {
          settle(index, status);
          continue;
        }
        report_.prompt_tokens += requests_[index].prompt.size();
        stop_if_cancelled(place);
      }
    }
  }

  // One model drafts for all texts that ask for one: a second one would read its weights for fewer of them.
  Result<std::unique_ptr<DraftSource>> source_for(size_t place, const GenerateOptions& options) {
    const std::string& path = options.draft.path;
    if (drafter_ == nullptr) {
      const uint32_t context_tokens = options_.context_tokens == 0 ? engine_.plan.context_tokens : options_.context_tokens;
      OTR_ASSIGN(drafter_, BatchDrafter::open(engine_, path, context_tokens, shares_.size(), options_.cancel));
    }
    if (drafter_->path() != path) {
      return Status(StatusCode::kUnsupported,
                    formatted("draft: got {}, need the batch's first draft model, {}, for all of its texts", path, drafter_->path()));
    }
    return drafter_->begin(place, options.sampling);
  }

  // Before the texts join the step that verifies.
  void draft_together() {
    if (drafter_ == nullptr || drafter_->has_failed()) return;
    for (size_t i = 0; i < places_.size(); ++i) {
      if (const uint32_t most = places_[i].wanted_of_model(shares_[i]); most > 0) drafter_->ask(i, places_[i].tokens(), most);
    }
    const Status status = drafter_->run(options_.cancel);
    if (!drafter_->has_failed()) return;  // a cancelled one is noticed by the step
    log_message(LogLevel::kWarning, formatted("the draft ({}) failed and is given up, generation goes on without it: {}",
                                              drafter_->path(), status.to_string()));
  }

  void stop_if_cancelled(BatchSequence& place) {
    if (!place.is_free() && place.is_cancelled()) end(place, place.stop(StopReason::kCancelled));
  }

  // What each has in the next step. False: nobody is left.
  bool share_out() {
    bool is_anyone = false, is_paying = false;
    for (size_t i = 0; i < places_.size(); ++i) {
      shares_[i] = places_[i].need();
      is_anyone |= shares_[i].pending > 0;
    }
    const Plan& plan = engine_.plan;  // another one after a replan
    turn_ = share_step(shares_, turn_, {plan.step_tokens, std::min(plan.logit_rows, plan.step_tokens)});
    for (size_t i = 0; i < places_.size(); ++i) is_paying |= shares_[i].drafted > 0 && places_[i].drafts_as_it_pays();
    const uint32_t paying = is_paying ? draft_length_.next() : 0;
    for (size_t i = 0; i < places_.size(); ++i) {
      if (places_[i].drafts_as_it_pays()) shares_[i].drafted = std::min(shares_[i].drafted, paying);
    }
    return is_anyone;
  }

  void run_step() {
    step_.clear();
    joined_.clear();
    bool is_reading = false;
    const Clock::time_point drafting = Clock::now();
    draft_together();
    for (size_t i = 0; i < places_.size(); ++i) {
      if (shares_[i].tokens == 0) continue;
      places_[i].join(shares_[i], step_);
      joined_.push_back(&places_[i]);
      is_reading |= shares_[i].is_reading;
    }
    const auto tokens = static_cast<uint32_t>(step_.tokens());
    if (follower_) step_.set_branch_share(is_reading ? follower_->settled_share() : follower_->next_share(tokens));
    const Clock::time_point start = Clock::now();
    const Status status = step_.run(options_.cancel, on_row_);
    const double step_ms = ms_since(start);
    if (status.is_ok() && follower_ && !is_reading) follower_->record(tokens, step_.step_ms());
    if (status.is_ok()) count_step(std::chrono::duration<double, std::milli>(start - drafting).count(), step_ms, !is_reading && (drafter_ == nullptr || !drafter_->has_read()));
    for (BatchSequence* const place : joined_) {
      if (std::optional<Result<GenerateResult>> result = place->end_step(status, step_ms)) end(*place, std::move(*result));
    }
  }

  void count_step(double draft_ms, double step_ms, bool is_comparable) {
    ++report_.steps;
    report_.step_tokens += step_.tokens();
    report_.most_at_once = std::max(report_.most_at_once, static_cast<uint32_t>(step_.sessions()));
    for (const BatchSequence* const place : joined_) {
      if (place->drafts_as_it_pays() && !place->is_reading()) draft_length_.add(place->drafted(), place->accepted());
    }
    draft_length_.end_step(draft_ms, step_ms, is_comparable);
  }

  // The place is free now, and knows its request still.
  void end(const BatchSequence& place, Result<GenerateResult> result) {
    if (result.is_ok() && place.drafts_as_it_pays()) result.value().speculation.auto_off = draft_length_.has_given_up();
    settle(place.index(), std::move(result));
  }

  void settle(size_t index, Result<GenerateResult> result) {
    if (result.is_ok()) report_.generated_tokens += result.value().tokens.size();
    results_[index] = std::move(result);
    if (options_.on_result) options_.on_result(index, *results_[index]);
  }

  // After cancelling; otherwise there is nothing to stop.
  void stop_all() {
    for (BatchSequence& place : places_) {
      if (!place.is_free()) end(place, place.stop(StopReason::kCancelled));
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
  std::unique_ptr<BatchDrafter> drafter_;  // null: no text asked for a draft model yet. Outlives the places, whose drafts it makes
  std::deque<BatchSequence> places_;       // where each stays
  std::vector<BatchShare> shares_;         // of each place
  size_t turn_ = 0;                   // the place that has the first share of the next step
  BatchDraftLength draft_length_;
  BatchStep step_;
  std::shared_ptr<LoadFollower> follower_;  // null: the share is fixed
  std::vector<BatchSequence*> joined_;  // the step, in its order
  const BatchStep::OnRow on_row_ = [this](size_t index, size_t row, std::span<const float> logits) { joined_[index]->judge(row, logits); };
  std::vector<std::optional<Result<GenerateResult>>> results_;
  size_t next_request_ = 0;
  BatchReport report_;
};

}  // namespace

Status BatchOptions::validate() const {
  if (follow_load) OTR_TRY(follow_load->validate());
  if (branch_share == SessionOptions::kAsPlanned || (branch_share >= 0 && branch_share <= 1)) return {};
  return Status(StatusCode::kInvalidArgument,
                formatted("branch_share: got {}, need 0 to 1, or {} as planned", branch_share, SessionOptions::kAsPlanned));
}

Result<BatchResult> generate_batch(const Engine& engine, std::span<const BatchRequest> requests, const BatchOptions& options) try {
  OTR_TRY(options.validate());
  const Plan& plan = engine.plan();
  if (options.sequences > plan.batch) {
    return Status(
        StatusCode::kInvalidArgument,
        formatted("sequences: got {}, need at most the plan's batch of {}; plan for a larger batch", options.sequences, plan.batch));
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
