// Shares of a step: what each text of a batch computes in it.
#ifndef OUTRIGGER_SRC_DECODE_BATCH_SHARES_H_
#define OUTRIGGER_SRC_DECODE_BATCH_SHARES_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace outrigger {

/// A place of the batch: what its text needs, and what it has of the next step.
struct BatchShare {
  uint32_t pending = 0;     ///< tokens to compute before it can say another: one, or what is left of its prompt; 0: the place is free
  bool is_reading = false;  ///< they are its prompt's
  bool wants_row = true;    ///< of the last of them it wants the logits

  uint32_t tokens = 0;   ///< of those pending; 0: it waits for a later step
  uint32_t drafted = 0;  ///< more, at most, behind its last token; 0 while it reads
};

/// What a step has room for.
struct StepRoom {
  uint32_t tokens = 1, rows = 1;
};

/// Shares a step out: first a token for everyone, from place `turn` on, round; then the rest of the prompts, as far as there is room; then
/// drafts, as many for each text that is being written. Returns the place that was left out first, whose turn is next, or `turn` if none
/// was. Pure; allocates nothing.
size_t share_step(std::span<BatchShare> places, size_t turn, StepRoom room);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DECODE_BATCH_SHARES_H_
