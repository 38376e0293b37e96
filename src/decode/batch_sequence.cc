// One text of a batch: its prompt, then its tokens, one step after the other.
#include "src/decode/batch_sequence.h"

#include <algorithm>
#include <utility>

#include "src/base/macros.h"

namespace outrigger {
namespace {

// A model that drafts for itself takes steps of its own, and a tree takes rows that other texts' chains have more of.
Status check_draft(const DraftOptions& draft) {
  if (draft.shape == DraftShape::kTree) {
    return Status(StatusCode::kUnsupported,
                  "draft: got a tree, need a chain in a batch; generate the texts one after the other, or draft chains");
  }
  if (draft.kind != DraftKind::kSelf) return {};
  return Status(
      StatusCode::kUnsupported,
      "draft: got 'self', need none, auto, ngram or a model in a batch; generate the texts one after the other, or use another draft");
}

}  // namespace

BatchSequence::BatchSequence(Session session) : session_(std::move(session)), state_(session_.impl()) {
  next_.tokens.reserve(kMostDraftTokens + 1);
}

Status BatchSequence::start(size_t index, const BatchRequest& request, const MakeDraft& make_draft) {
  OTR_TRY(request.options.validate());
  OTR_TRY(check_draft(request.options.draft));
  options_ = request.options;
  choose_draft();
  state_.truncate(0);
  OTR_TRY(state_.check_tokens(request.prompt));
  OTR_ASSIGN(SpeculativeDecoder decoder, make_decoder(make_draft));
  state_.tokens.insert(state_.tokens.end(), request.prompt.begin(), request.prompt.end());
  index_ = index;
  is_reading_ = true;
  generation_.emplace(state_, options_, std::move(decoder));
  generation_->start();
  return {};
}

Result<SpeculativeDecoder> BatchSequence::make_decoder(const MakeDraft& make_draft) {
  if (options_.draft.kind != DraftKind::kModel) return SpeculativeDecoder::create(state_, options_);
  OTR_TRY(state_.check_draft(options_.draft));  // before a model is opened in vain
  OTR_ASSIGN(std::unique_ptr<DraftSource> source, make_draft(options_));
  return SpeculativeDecoder::with_model(state_, options_, std::move(source));
}

// What is to pay is the batch's to say: to the decoder it is a fixed length, of which it has as much room as its share of a step.
void BatchSequence::choose_draft() {
  DraftOptions& draft = options_.draft;
  draft.shape = DraftShape::kChain;
  if (state_.follower && draft.kind == DraftKind::kAuto) draft.kind = DraftKind::kNone;
  drafts_as_it_pays_ = draft.kind == DraftKind::kAuto ||
                        ((draft.kind == DraftKind::kNgram || draft.kind == DraftKind::kModel) && draft.tokens == DraftOptions::kAsItPays);
  if (!drafts_as_it_pays_) return;
  if (draft.kind == DraftKind::kAuto) draft.kind = state_.engine->plan.logit_rows < 2 ? DraftKind::kNone : DraftKind::kNgram;
  if (draft.tokens == DraftOptions::kAsItPays) draft.tokens = kMostDraftTokens;
}

BatchShare BatchSequence::need() const {
  if (is_free()) return {};
  return {pending(), is_reading_, generation_->most_wanted() > 0};
}

// As many as the decoder will ask for.
uint32_t BatchSequence::wanted_of_model(const BatchShare& share) const {
  if (is_free() || is_reading_ || options_.draft.kind != DraftKind::kModel || share.tokens != 1 || pending() != 1) return 0;
  const uint32_t wanted = generation_->most_wanted(), room = state_.context_tokens - static_cast<uint32_t>(state_.tokens.size());
  return std::min({share.drafted, std::max(wanted, 1u) - 1, options_.draft.tokens, room});
}

void BatchSequence::join(const BatchShare& share, BatchStep& step) {
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

std::optional<Result<GenerateResult>> BatchSequence::end_step(const Status& step, double draft_ms, double step_ms) {
  const double model_draft_ms = options_.draft.kind == DraftKind::kModel && drafted() > 0 ? draft_ms : 0;
  state_.truncate(static_cast<uint32_t>(base_));
  if (!step.is_ok()) return step.code() == StatusCode::kCancelled ? stop(StopReason::kCancelled) : fail(step);
  if (is_reading_) {
    const bool goes_on = report_progress();
    is_reading_ = pending() > 0;
    if (is_reading_) return goes_on ? std::nullopt : std::optional(stop(StopReason::kCancelled));
    generation_->end_prompt(base_);
    if (generation_->most_wanted() == 0) return done();
  }
  if (const Status status = generation_->decoder().end(model_draft_ms, step_ms, &next_); !status.is_ok()) return fail(status);
  const Result<bool> goes_on = generation_->take(next_);
  if (!goes_on.is_ok()) return fail(goes_on.status());
  if (!goes_on.value()) return done();
  if (!next_.failure.is_ok()) return fail(next_.failure);
  return generation_->most_wanted() > 0 ? std::nullopt : std::optional(done());
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
