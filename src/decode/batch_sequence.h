// BatchSequence: one text of a batch, and the session that it is written in.
#ifndef OUTRIGGER_SRC_DECODE_BATCH_SEQUENCE_H_
#define OUTRIGGER_SRC_DECODE_BATCH_SEQUENCE_H_

#include <outrigger/batch.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "src/decode/batch_step.h"
#include "src/decode/generation.h"

namespace outrigger {

/// A place in a batch: one request after the other is generated here, in one session.
class BatchSequence {
 public:
  explicit BatchSequence(Session session);
  BatchSequence(const BatchSequence&) = delete;
  BatchSequence& operator=(const BatchSequence&) = delete;

  /// Begins a request. Precondition: is_free(). Errors: of the request; the place stays free.
  Status start(size_t index, const BatchRequest& request);
  bool is_free() const { return !generation_; }
  size_t index() const { return index_; }  ///< of its request

  /// Tokens that are to be computed before the next one can be said: more than one, or a whole prompt.
  uint32_t pending() const { return static_cast<uint32_t>(state_.tokens.size() - state_.computed); }
  bool is_reading() const { return is_reading_; }
  bool wants_row() const { return generation_->most_wanted() > 0; }
  /// Its own cancel token says stop.
  bool is_cancelled() const { return options_.cancel.is_cancelled(); }

  /// What it has in the step that is being filled.
  struct Share {
    uint32_t tokens = 0;   ///< of those that are pending; 0: it waits
    uint32_t drafted = 0;  ///< more, at most
  };
  Share share;

  /// Adds its share to the step. Precondition: it is not 0.
  void join(BatchStep& step);
  void judge(size_t row, std::span<const float> logits) { generation_->decoder().judge(row, logits, base_, &next_); }
  /// After the step that it joined, which took so long. Empty: it goes on; else it is done, and the place is free.
  std::optional<Result<GenerateResult>> end_step(const Status& step, double step_ms);
  /// Ends it with what it has.
  Result<GenerateResult> stop(StopReason reason);

 private:
  Result<GenerateResult> done();
  Result<GenerateResult> fail(const Status& why);
  bool report_progress() const;

  Session session_;
  Session::Impl& state_;  ///< the session's
  size_t index_ = 0;
  GenerateOptions options_;               ///< the request's, and its draft
  std::optional<Generation> generation_;  ///< none: it is free
  bool is_reading_ = false;               ///< the prompt
  size_t base_ = 0;                       ///< the session's tokens without the draft
  NextTokens next_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DECODE_BATCH_SEQUENCE_H_
