// Device parts: what of a step can be placed on a device, and what a step does there under one placement.
#ifndef OUTRIGGER_SRC_PLAN_DEVICE_PARTS_H_
#define OUTRIGGER_SRC_PLAN_DEVICE_PARTS_H_

#include <outrigger/step_shape.h>

#include <cstdint>
#include <vector>

#include "src/plan/device_cost.h"
#include "src/plan/memory_model.h"

namespace outrigger {

/// Matrices that are placed together.
struct DevicePart {
  MatrixPart part = MatrixPart::kHost;
  std::vector<uint32_t> matrices;
  uint64_t arena_bytes = 0;  ///< of all of them, each at its place in the arena of resident weights
  uint64_t packed_bytes = 0;
  uint64_t branch_arena_bytes = 0, branch_packed_bytes = 0;  ///< of these, branches
  uint64_t row_block_bytes = 0, branch_row_block_bytes = 0;  ///< the largest; of branches apart
};

enum class PartPlace : uint8_t { kHost, kDevice, kStreamed };

/// A step as a chain: each link waits for the one before.
struct PartChain {
  static constexpr uint32_t kNone = UINT32_MAX;
  struct Link {
    uint32_t part = kNone;  ///< kNone: the host's
    WorkSums work;
    DeviceWork device_work = {};
    bool is_head = false;
    std::vector<CorrectedWindows> windows = {};  ///< in order; those of no correction have a count of 0
    ProductWork branches = {};                   ///< of `work`
  };

  explicit PartChain(const StepShape& shape);

  std::vector<DevicePart> parts;  ///< in the order of the step
  std::vector<Link> links;        ///< the layers', then the heads'
  std::vector<uint32_t> part_of;  ///< per matrix
  uint32_t kv_layers = 1;
};

/// `streams`: whether the step is one that streams weights to the device, and computes with them there. `beside`: whether the host corrects
/// what is computed there.
DeviceSums device_sums(const PartChain& chain, const std::vector<PartPlace>& places, bool streams, bool beside);

/// Where a plan puts each part. Precondition: the plan was checked.
std::vector<PartPlace> part_places(const PartChain& chain, const DeviceUse& device);
/// The same as what is computed there. `from_tokens`: Plan::device_from_tokens.
DeviceLoad device_load(const PartChain& chain, const std::vector<PartPlace>& places, uint32_t from_tokens, uint32_t slots,
                       uint64_t slot_bytes, bool beside);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_PLAN_DEVICE_PARTS_H_
