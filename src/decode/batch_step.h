// BatchStep: one step over tokens of several sessions.
#ifndef OUTRIGGER_SRC_DECODE_BATCH_STEP_H_
#define OUTRIGGER_SRC_DECODE_BATCH_STEP_H_

#include <outrigger/cancel.h>
#include <outrigger/status.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "src/decode/session_impl.h"

namespace outrigger {

/// Filled anew for each step. Capacity is taken for the plan's steps, so that filling and running allocate nothing.
class BatchStep {
 public:
  /// Of up to `most_sessions` sessions. The engine must outlive it.
  BatchStep(Engine::Impl& engine, size_t most_sessions, float branch_share);

  void set_branch_share(float share) { branch_share_ = share; }
  void clear();
  bool is_empty() const { return slices_.empty(); }
  size_t tokens() const { return tokens_.size(); }
  size_t sessions() const { return sessions_.size(); }

  /// The session's next `count` tokens that are not computed, and the logits of the last `rows` of them. Preconditions: it has as many; it
  /// is not in the step already; with it the step has no more tokens and rows than the plan's.
  void add(Session::Impl& session, uint32_t count, uint32_t rows);

  /// Row `row`, from 0 on, of those that the session that was added as the `index`-th wanted.
  using OnRow = std::function<void(size_t index, size_t row, std::span<const float> logits)>;
  /// Runs it, and gives the rows in order while the engine is held. The sessions' tokens count as computed then; their own logits stay as
  /// they are. Errors: a step's; nothing counts as computed then.
  Status run(const CancelToken& cancel, const OnRow& on_row);
  /// What the last one took, without waiting for its turn. Of one that wanted logits.
  double step_ms() const { return step_ms_; }

 private:
  struct Row {
    size_t index = 0, row = 0;
  };

  Engine::Impl& engine_;
  float branch_share_;
  double step_ms_ = 0;
  std::vector<Token> tokens_;
  std::vector<SequenceSlice> slices_;
  std::vector<Session::Impl*> sessions_;
  std::vector<uint32_t> logit_tokens_;
  std::vector<Row> rows_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DECODE_BATCH_STEP_H_
