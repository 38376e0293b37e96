// The bytes of keys and values on disk: what they take there, and what a step moves of them.
#ifndef OUTRIGGER_SRC_PLAN_KV_SPILL_MODEL_H_
#define OUTRIGGER_SRC_PLAN_KV_SPILL_MODEL_H_

#include <outrigger/plan.h>
#include <outrigger/step_shape.h>

#include <cstdint>
#include <vector>

#include "src/plan/memory_model.h"
#include "src/tensor/kv_spread.h"

namespace outrigger {

/// One layer's keys and values of all sessions, each session's in whole pages. UINT64_MAX when that is beyond 64 bits.
uint64_t kv_slot_bytes(const StepShape& shape, const Demand& demand);
/// Bytes of each run that a step reads, and those that it writes: whole granules.
struct KvExtent {
  uint64_t prefix = 0, begin = 0, end = 0;
};

/// One session's keys and values of one layer, as they lie on disk.
struct KvSpillShape {
  KvRuns runs;
  uint64_t granule_bytes = 0;  ///< of each run
  uint64_t granule_tokens = 1, context_tokens = 0;

  /// A step of `tokens` from `position` on, which may be any number from 0 on.
  KvExtent extent(double position, uint32_t tokens) const;
};
KvSpillShape kv_spill_shape(const StepShape& shape, KvType type, uint64_t context_tokens);

/// What moving so many bytes of each run takes, at most: wherever they begin, up to two pages more for each range.
struct KvMove {
  double bytes = 0, ranges = 0;
};
KvMove most_moved(const KvRuns& runs, uint64_t bytes);

/// The pages that hold bytes [begin, end) of each run.
uint64_t kv_range_bytes(const KvRuns& runs, uint64_t begin, uint64_t end);
/// Read and written by one session's step, all spilled layers, to the byte.
uint64_t kv_disk_bytes(const StepShape& shape, const Demand& demand, double position, uint32_t tokens);

/// Numbers of spilled layers to choose from, ascending: none, quarters, all; only what needs less memory than none does. They depend on
/// nothing but sizes, so that a larger budget has no fewer to choose from. With a number that was asked for, only that.
std::vector<uint32_t> kv_spill_choices(const StepShape& shape, const Demand& demand, uint32_t asked_for);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_PLAN_KV_SPILL_MODEL_H_
