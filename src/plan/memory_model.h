// Memory model: the bytes a plan reserves, by the rule of TierBreakdown: each allocation in whole pages.
#ifndef OUTRIGGER_SRC_PLAN_MEMORY_MODEL_H_
#define OUTRIGGER_SRC_PLAN_MEMORY_MODEL_H_

#include <outrigger/plan.h>
#include <outrigger/step_shape.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "src/tensor/expert_layout.h"
#include "src/tensor/stream_layout.h"

namespace outrigger {

inline constexpr uint64_t kPageBytes = 4096;      ///< the granule of every allocation, and of direct reads
inline constexpr uint64_t kWeightAlignment = 64;  ///< a matrix starts at a multiple of this in the arena of resident weights
inline constexpr uint32_t kLeastSlots = 2;        ///< one is filled while another is read
inline constexpr uint32_t kMostSlots = 6;         ///< as many reads as pay are then in flight while one slot is computed with
inline constexpr uint32_t kMostReads = 4;         ///< in flight: docs/design/0005-reading-the-disk.md
inline constexpr uint32_t kMostTokensInPlace = 512;  ///< of a step for which nothing is brought: beyond it memory is all that grows
inline constexpr uint32_t kLeastExpertSlots = 1;  ///< what an expert is packed into; it arrives elsewhere

// Sums that stay at the largest value instead of wrapping: no budget reaches it, so what does not fit 64 bits is never planned.
inline uint64_t add_bytes(uint64_t a, uint64_t b) { return a + b < a ? UINT64_MAX : a + b; }
uint64_t multiply_bytes(uint64_t a, uint64_t b);
uint64_t round_up_bytes(uint64_t bytes, uint64_t unit);
inline uint64_t whole_pages(uint64_t bytes) { return round_up_bytes(bytes, kPageBytes); }

/// What a workload asks for besides weights.
struct Demand {
  uint32_t threads = 1, batch = 1, context_tokens = 0, logit_rows = 1;
  KvType kv_type = KvType::kF16;
  uint32_t kv_spilled_layers = 0;
  uint32_t draft_tokens = 0;  ///< that a step is to verify: it then wants one row of logits more
  uint64_t draft_bytes = 0;   ///< of host memory, for a draft model
  uint32_t self_draft_bits = 0;  ///< of copies of what streams from disk; 0: there are none
  uint64_t draft_device_bytes = 0;  ///< of the device's memory, for a draft model; the device then has so many threads
  uint32_t device_threads = 0;
  uint64_t device_taken_bytes = 0;  ///< of the device's memory, by using it at all

  uint32_t rows_of(const ActivationCost& step) const { return std::min(std::max(logit_rows, draft_tokens + 1), step.tokens); }
};

/// Of one session, all layers. Precondition: the shape takes the type.
uint64_t kv_bytes_per_token(const StepShape& shape, KvType type);
/// kv_type is a known one that the shape takes. Errors: kInvalidArgument, which begins with `what`.
Status check_kv_type(const char* what, KvType type, const StepShape& shape);
/// Every session's cache of so many layers, as far as it is in memory, and the slots that the spilled ones of them pass through.
uint64_t kv_cache_bytes(const StepShape& shape, const Demand& demand, uint32_t layers);
/// Activations, scratch and logits of steps of up to step.tokens; a step wants the logits of at most all its tokens. `has_corrections`: and
/// the results of the host's corrections, on a device.
uint64_t activation_bytes(const StepShape& shape, const Demand& demand, const ActivationCost& step, bool has_corrections = false);

/// What the host needs for steps of up to step.tokens whatever is resident: activations, residuals, a draft model.
uint64_t host_step_bytes(const StepShape& shape, const Demand& demand, const ActivationCost& step);

/// Whether it streams through the ring when it is not resident. Experts have slots of their own.
inline bool is_multiplied(const MatrixShape& matrix) { return matrix.use == MatrixUse::kEveryToken || matrix.use == MatrixUse::kLogits; }
/// Whether single rows are read from the file when the matrix is not resident.
inline bool is_looked_up(const MatrixShape& matrix) { return matrix.use == MatrixUse::kRowLookup || matrix.also_rows; }
/// A matrix's place in the arena of resident weights.
inline uint64_t resident_bytes(const MatrixShape& matrix) { return round_up_bytes(matrix.packed_bytes, kWeightAlignment); }
inline uint64_t fixed_arena_bytes(const StepShape& shape) { return round_up_bytes(shape.fixed_bytes, kWeightAlignment); }
/// The smallest slot that a matrix can be read into.
inline uint64_t least_slot_bytes(const MatrixShape& matrix) { return whole_pages(add_bytes(matrix.row_block_file_bytes, kReadAlignment)); }
/// The same of a device's ring, which holds packed row blocks.
inline uint64_t least_device_slot_bytes(const MatrixShape& matrix) { return whole_pages(matrix.row_block_bytes); }
/// Of each expert, in memory and on its way (src/tensor/expert_layout.h). 0 without experts.
struct ExpertSizes {
  uint64_t slot_bytes = 0, arrival_bytes = 0;
};
ExpertSizes expert_sizes(const StepShape& shape);
/// The ring and the slots of experts; either may be absent.
struct Slots {
  uint32_t ring = 0;
  uint64_t ring_slot_bytes = 0;
  uint32_t experts = 0;
  ExpertSizes of_expert;
};
/// Reads in flight: while one slot is computed with, the others may be read, each in as many reads as it takes; of experts all that are on
/// their way.
uint32_t reads_in_flight(uint64_t row_block_bytes, const Slots& slots);
/// The threads' buffers for unpacking, if there is a ring, then the places in which experts arrive.
uint64_t staging_bytes(uint64_t row_block_bytes, uint32_t threads, const Slots& slots);

/// Tokens of the largest step that multiplies with copies: a level of the tree that they draft.
inline constexpr uint32_t kStandInTokens = 3;
/// Whether a plan with copies to draft with has one of the matrix. `stays`: it does not stream from disk.
inline bool has_stand_in(const MatrixShape& matrix, bool stays) { return !stays && is_multiplied(matrix); }
/// A matrix's copy, and its place in the arena of copies. Precondition: 2 to 4 bits.
uint64_t stand_in_bytes(const MatrixShape& matrix, uint32_t bits);
/// All that drafting with copies takes, by the rule of TierBreakdown: the copies, and what the steps of a draft compute in. `stays`: per
/// matrix.
uint64_t stand_ins_bytes(const StepShape& shape, const Demand& demand, const std::vector<bool>& stays);

/// Layers times experts: more slots would stay empty.
uint32_t expert_count(const StepShape& shape);

/// What a device does for a plan.
struct DeviceUse {
  std::vector<bool> resident, streamed;  ///< per matrix: in its memory, or brought there from the host's; empty: there is no device
  uint32_t slots = 0;
  uint64_t slot_bytes = 0;
  uint32_t threads = 0;
  uint64_t transfer_bytes = 0, handoff_bytes = 0;
  bool corrections_beside = false;  ///< Plan's

  bool is_resident(size_t matrix) const { return !resident.empty() && resident[matrix]; }
  bool is_streamed(size_t matrix) const { return !streamed.empty() && streamed[matrix]; }
  bool computes(size_t matrix) const { return is_resident(matrix) || is_streamed(matrix); }
  bool is_used() const;
  /// Layers whose attention, with keys and values, is there.
  uint32_t attention_layers(const StepShape& shape) const;
};
DeviceUse device_use(const Plan& plan);
inline constexpr uint64_t kLeastTransferBytes = 1 << 20;  ///< a copy of that size has the link's full rate
/// Host memory for what the device is loaded with: a row block of each, and no less than keeps the link busy.
uint64_t transfer_bytes(const StepShape& shape, const DeviceUse& device);

/// Whether single rows of the matrix are read from the file. `resident`: per matrix, whether it does not stream from disk.
bool reads_rows(const StepShape& shape, const std::vector<bool>& resident, const DeviceUse& device, size_t matrix);
/// Buffer for these rows.
uint64_t row_buffer_bytes(const StepShape& shape, const std::vector<bool>& resident, const DeviceUse& device = {});
TierBreakdown host_breakdown(const StepShape& shape, const Demand& demand, const ActivationCost& step, const std::vector<bool>& resident,
                             const Slots& slots, const DeviceUse& device = {});
TierBreakdown device_breakdown(const StepShape& shape, const Demand& demand, const ActivationCost& step, const DeviceUse& device);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_PLAN_MEMORY_MODEL_H_
