// Handoff size: the memory through which host and device hand over to each other in the middle of a step.
#ifndef OUTRIGGER_SRC_PLAN_HANDOFF_SIZE_H_
#define OUTRIGGER_SRC_PLAN_HANDOFF_SIZE_H_

#include <outrigger/step_shape.h>

#include <cstdint>

namespace outrigger {

/// Of a step's tokens that hand over by words, which are twice as many bytes as copies: of an 8B model's windows 130 KB a token more, and a
/// copy's way costs what 20 such tokens do on a link of 24 GB/s.
inline constexpr uint32_t kHandoffTokens = 16;

/// Floats of one token that go either way at once.
struct HandoffSize {
  uint64_t to_host = 0, to_device = 0;
};
HandoffSize handoff_size(const StepShape& shape);
/// Words for kHandoffTokens of them, a flag of a cache line; whole pages.
uint64_t handoff_bytes(const HandoffSize& size);
inline constexpr uint64_t kHandoffFlagBytes = 64;

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_PLAN_HANDOFF_SIZE_H_
