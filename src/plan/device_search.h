// DeviceSearch: every way of using a device that is worth trying, and the fastest of them.
#ifndef OUTRIGGER_SRC_PLAN_DEVICE_SEARCH_H_
#define OUTRIGGER_SRC_PLAN_DEVICE_SEARCH_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "src/plan/device_candidates.h"
#include "src/plan/handoff_size.h"
#include "src/plan/placement_search.h"

namespace outrigger {

/// One way, with its bytes and times.
struct DevicePlacement {
  std::vector<PartPlace> places;
  DeviceUse use;
  DeviceLoad load;
  size_t step = 0;             ///< index into StepShape::activations
  std::vector<bool> resident;  ///< per matrix: does not stream from disk
  Slots slots;                 ///< the host's
  uint64_t host_bytes = 0, device_bytes = 0;
  uint32_t kv_spilled_layers = 0;  ///< without a device only
  WorkloadTime time;
};

/// More of either budget never finds a slower way: which parts go to the device, through what ring others do, and the step size are
/// candidates that depend on neither budget; what remains for the host is all resident, or left to a PlacementSearch of its own. Keeps
/// references to all that it is given.
class DeviceSearch {
 public:
  /// Precondition: DeviceRates::are_known(machine).
  DeviceSearch(const StepShape& shape, const Demand& demand, const CostModel& cost, const MachineProfile& machine,
               CorrectionPlace corrections);
  ~DeviceSearch();

  /// The fewest bytes of host memory that any candidate needs which fits the device; UINT64_MAX if none does.
  uint64_t minimum_host_bytes(uint64_t device_bytes) const;
  /// The fastest within both budgets. `reads`: whether weights may be read from disk in a step; what is not faster than `to_beat_s` is not
  /// found.
  std::optional<DevicePlacement> best(uint64_t host_bytes, uint64_t device_bytes, bool reads, double to_beat_s) const;
  /// With everything on the device that can be there, in steps of this size or the fastest; nothing if that is beyond 64 bits.
  std::optional<DevicePlacement> everything(size_t step) const;
  std::optional<DevicePlacement> everything() const;

 private:
  struct Rest {
    struct Made;
    DeviceCandidate candidate;
    std::unique_ptr<Made> made;  ///< its search, when it was needed; most never are
  };
  class Best;

  uint64_t device_bytes(const DeviceCandidate& candidate, size_t step) const;
  uint64_t host_bytes(const DeviceCandidate& candidate, size_t step) const;
  uint64_t handoff_bytes_of(const DeviceCandidate& candidate) const { return candidate.takes_turns ? handoff_bytes_ : 0; }
  /// What the host keeps to load the device and to hand over to it.
  uint64_t beside_bytes(const DeviceCandidate& candidate) const {
    return add_bytes(candidate.transfer_bytes, handoff_bytes_of(candidate));
  }
  bool takes_step(const DeviceCandidate& candidate, size_t step, uint64_t device_budget) const;
  bool is_too_large(const DeviceCandidate& candidate, size_t step) const;
  std::vector<bool> steps_within(const DeviceCandidate& candidate, uint64_t device_budget) const;
  double least_time_s(const DeviceCandidate& candidate, const std::vector<bool>& steps, uint64_t host_budget) const;
  uint64_t streamed_bytes(const DeviceCandidate& candidate) const;
  uint64_t bytes_without_layers(const DeviceCandidate& candidate, uint64_t streamed, size_t step) const;
  const Rest::Made& made(Rest& rest) const;
  DevicePlacement placement_of(const DeviceCandidate& candidate, size_t step) const;

  const StepShape& shape_;
  const Demand demand_;
  const CostModel& cost_;
  const DeviceCandidates candidates_;
  const uint32_t threads_;
  const uint64_t handoff_bytes_;    ///< 0: by copies
  StepShape bare_;                  ///< the shape without names
  std::vector<uint64_t> kv_bytes_;  ///< of 0, 1, 2, ... layers
  std::vector<uint64_t> host_step_bytes_, device_step_bytes_, beside_step_bytes_;  ///< beside: where the host corrects
  uint64_t layer_bytes_ = 0;
  double least_file_share_ = 1;               ///< of a layer's matrix, file bytes for each byte of the arena
  std::vector<std::unique_ptr<Rest>> rests_;  ///< candidates whose host part may read from disk
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_PLAN_DEVICE_SEARCH_H_
