// One text of a batch: its prompt, then its tokens, one step after the other.
#include "src/decode/batch_sequence.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "src/base/macros.h"

namespace outrigger {
namespace {

// What a text drafts by in a batch. A draft model would have a cache for one text, and a model that drafts for itself takes steps of its
// own.
Result<DraftOptions> draft_in_batch(const DraftOptions& draft) {
  if (draft.kind == DraftKind::kAuto) return DraftOptions();
  if (draft.kind == DraftKind::kNone || draft.kind == DraftKind::kNgram) return draft;
  return Status(
      StatusCode::kUnsupported,
      fmt::format("draft: got '{}', need none, auto or ngram in a batch; generate the texts one after the other, or use another draft",
                  draft_kind_name(draft.kind)));
}

}  // namespace

BatchSequence::BatchSequence(Session session) : session_(std::move(session)), state_(session_.impl()) {
  next_.tokens.reserve(kMostDraftTokens + 1);
}

Status BatchSequence::start(size_t index, const BatchRequest& request) {
  OTR_TRY(request.options.validate());
  options_ = request.options;
  OTR_ASSIGN(options_.draft, draft_in_batch(request.options.draft));
  state_.truncate(0);
  OTR_TRY(state_.check_tokens(request.prompt));
  OTR_ASSIGN(SpeculativeDecoder decoder, SpeculativeDecoder::create(state_, options_));
  state_.tokens.insert(state_.tokens.end(), request.prompt.begin(), request.prompt.end());
  index_ = index;
  is_reading_ = true;
  generation_.emplace(state_, options_, std::move(decoder));
  generation_->start();
  return {};
}

void BatchSequence::join(BatchStep& step) {
  base_ = state_.tokens.size();
  const bool is_last = share.tokens == pending();
  const uint32_t most = is_last ? generation_->most_wanted() : 0;
  if (most == 0) return step.add(state_, share.tokens, 0);
  generation_->decoder().begin(std::min(most, share.drafted + 1), options_.cancel, &next_);
  const std::span<const Token> drafted = generation_->decoder().drafted();
  state_.tokens.insert(state_.tokens.end(), drafted.begin(), drafted.end());
  const auto more = static_cast<uint32_t>(drafted.size());
  step.add(state_, share.tokens + more, 1 + more);
}

std::optional<Result<GenerateResult>> BatchSequence::end_step(const Status& step, double step_ms) {
  state_.truncate(static_cast<uint32_t>(base_));
  if (!step.is_ok()) return step.code() == StatusCode::kCancelled ? stop(StopReason::kCancelled) : fail(step);
  if (is_reading_) {
    const bool goes_on = report_progress();
    is_reading_ = pending() > 0;
    if (is_reading_) return goes_on ? std::nullopt : std::optional(stop(StopReason::kCancelled));
    generation_->end_prompt(base_);
    if (!wants_row()) return done();
  }
  if (const Status status = generation_->decoder().end(step_ms, &next_); !status.is_ok()) return fail(status);
  const Result<bool> goes_on = generation_->take(next_);
  if (!goes_on.is_ok()) return fail(goes_on.status());
  if (!goes_on.value()) return done();
  if (!next_.failure.is_ok()) return fail(next_.failure);
  return wants_row() ? std::nullopt : std::optional(done());
}

bool BatchSequence::report_progress() const {
  return !options_.prefill_progress || options_.prefill_progress(1 - static_cast<double>(pending()) / static_cast<double>(base_));
}

Result<GenerateResult> BatchSequence::stop(StopReason reason) {
  generation_->stop(reason);
  return done();
}

Result<GenerateResult> BatchSequence::done() {
  GenerateResult result = generation_->finish();
  generation_.reset();
  return result;
}

Result<GenerateResult> BatchSequence::fail(const Status& why) {
  generation_.reset();
  return why;
}

}  // namespace outrigger
