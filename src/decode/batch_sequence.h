// BatchSequence: one text of a batch, and the session that it is written in.
#ifndef OUTRIGGER_SRC_DECODE_BATCH_SEQUENCE_H_
#define OUTRIGGER_SRC_DECODE_BATCH_SEQUENCE_H_

#include <outrigger/batch.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>

#include "src/decode/batch_shares.h"
#include "src/decode/batch_step.h"
#include "src/decode/generation.h"

namespace outrigger {

/// A place in a batch: one request after the other is generated here, in one session.
class BatchSequence {
 public:
  explicit BatchSequence(Session session);
  BatchSequence(const BatchSequence&) = delete;
  BatchSequence& operator=(const BatchSequence&) = delete;

  /// Makes what drafts for a request that asks for a model.
  using MakeDraft = std::function<Result<std::unique_ptr<DraftSource>>(const GenerateOptions& options)>;
  /// Begins a request. Precondition: is_free(). Errors: of the request, and `make_draft`'s; the place stays free.
  Status start(size_t index, const BatchRequest& request, const MakeDraft& make_draft);
  bool is_free() const { return !generation_; }
  size_t index() const { return index_; }  ///< of its request

  bool is_reading() const { return is_reading_; }  ///< its prompt
  /// What it needs of the next step.
  BatchShare need() const;
  /// Whether the batch chooses how long its drafts are. Of the latest request.
  bool drafts_as_it_pays() const { return drafts_as_it_pays_; }
  /// Its own cancel token says stop.
  bool is_cancelled() const { return options_.cancel.is_cancelled(); }

  std::span<const Token> tokens() const { return state_.tokens; }
  /// Tokens that a model is to draft for the step with this share; 0: none.
  uint32_t wanted_of_model(const BatchShare& share) const;
  /// It reads a prompt behind which a model is to draft.
  bool reads_for_model() const { return !is_free() && is_reading_ && options_.draft.kind == DraftKind::kModel; }
  /// Adds its share, which has a token at least, to the step.
  void join(const BatchShare& share, BatchStep& step);
  void judge(size_t row, std::span<const float> logits) { generation_->decoder().judge(row, logits, base_, &next_); }
  /// Of the step, once its rows are judged.
  uint32_t drafted() const { return static_cast<uint32_t>(state_.tokens.size() - base_); }
  uint32_t accepted() const { return next_.in_cache; }
  /// After the step that it joined: what the model took to draft for all its texts, and what it took itself. Empty: it goes on; else it is
  /// done, and the place is free.
  std::optional<Result<GenerateResult>> end_step(const Status& step, double draft_ms, double step_ms);
  /// Ends it with what it has.
  Result<GenerateResult> stop(StopReason reason);

 private:
  uint32_t pending() const { return static_cast<uint32_t>(state_.tokens.size() - state_.computed); }
  void choose_draft();
  Result<SpeculativeDecoder> make_decoder(const MakeDraft& make_draft);
  Result<GenerateResult> done();
  Result<GenerateResult> fail(const Status& why);
  bool report_progress() const;

  Session session_;
  Session::Impl& state_;  ///< the session's
  size_t index_ = 0;
  bool drafts_as_it_pays_ = false;
  GenerateOptions options_;               ///< the request's, and its draft
  std::optional<Generation> generation_;  ///< none: it is free
  bool is_reading_ = false;               ///< the prompt
  size_t base_ = 0;                       ///< the session's tokens without the draft
  NextTokens next_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DECODE_BATCH_SEQUENCE_H_
