// Slowdown budget: what a token may read of branches and residuals for so much more time.
#ifndef OUTRIGGER_SRC_COMPRESS_SLOWDOWN_BUDGET_H_
#define OUTRIGGER_SRC_COMPRESS_SLOWDOWN_BUDGET_H_

#include <outrigger/machine_profile.h>
#include <outrigger/status.h>

#include <cstdint>

#include "src/model/layout.h"

namespace outrigger {

/// Bytes, read in order, that take as long as the part `slowdown` of a token of the model with its matrices in `type`, all of it in the
/// memory of `machine` and computed by its host, with what every window's branches take beside their bytes already taken off. Errors:
/// kInvalidArgument for a slowdown that is less than that, with the least that is not; those of the planner.
Result<uint64_t> bytes_within_slowdown(const ModelLayout& layout, DType type, const MachineProfile& machine, double slowdown);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_COMPRESS_SLOWDOWN_BUDGET_H_
