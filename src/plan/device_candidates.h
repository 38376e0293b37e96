// DeviceCandidates: the placements on a device that a search goes through, whatever the budgets.
#ifndef OUTRIGGER_SRC_PLAN_DEVICE_CANDIDATES_H_
#define OUTRIGGER_SRC_PLAN_DEVICE_CANDIDATES_H_

#include <outrigger/step_shape.h>

#include <cstdint>
#include <vector>

#include "src/plan/device_parts.h"
#include "src/plan/memory_model.h"

namespace outrigger {

/// One placement but for the step size, and the sums of its bytes.
struct DeviceCandidate {
  std::vector<PartPlace> places;
  bool beside = false;  ///< branches and residuals of what is there are the host's
  DeviceLoad load;
  uint64_t device_weights = 0, host_weights = 0;  ///< host_weights: everything else resident
  uint64_t transfer_bytes = 0, row_bytes = 0, row_buffer_bytes = 0;
  bool takes_turns = false;  ///< host and device compute one after the other, or one corrects the other
  uint32_t row_reads = 0, attention_layers = 0;
  uint64_t least_slot_bytes = 0;  ///< of the device's ring; 0: nothing streams there
};

/// How many of some parts: `of` of each `each`, evenly spaced, the first among them.
struct PartShare {
  uint32_t of, each;

  bool has(uint32_t at) const { return (uint64_t{at} * of + of + each - 1) / each > (uint64_t{at} * of + each - 1) / each; }
};

/// The beginnings of a few orders of a model's parts, of every length; and beside them what else may stream to the device. See
/// docs/design/0010-placing-on-a-device.md. Keeps a reference to `shape`.
class DeviceCandidates {
 public:
  DeviceCandidates(const StepShape& shape, const Demand& demand, CorrectionPlace corrections);

  const PartChain& chain() const { return chain_; }
  DeviceCandidate of(const std::vector<PartPlace>& places, uint32_t from_tokens, bool beside) const;
  /// Which ways of correcting there are: as the workload asks, if the model leaves the choice.
  const std::vector<bool>& besides() const { return besides_; }

  /// visit(candidate), with each ring that it may stream through; in an order that depends on shape and demand alone. The host has
  /// everything else resident.
  template <typename Visit>
  void for_each(Visit visit) const;
  /// Those of which the host may read its part from disk: some of the same, since each needs a search of its own.
  const std::vector<DeviceCandidate>& beside_disk() const { return beside_disk_; }

 private:
  void add_all();
  void add_streams(std::vector<PartPlace> places, const std::vector<uint32_t>& order, size_t length);
  void add_beside_disk();
  void add_streams_beside_disk(const std::vector<uint32_t>& order, size_t candidates);
  void stream_feed_forward(const std::vector<uint32_t>& order, size_t length, PartShare share, std::vector<PartPlace>* places) const;
  static DeviceCandidate with_ring(DeviceCandidate candidate, size_t ring);
  static size_t rings();

  const StepShape& shape_;
  const uint32_t logit_rows_;
  const PartChain chain_;
  uint64_t all_bytes_ = 0;
  std::vector<bool> besides_;
  std::vector<std::vector<uint32_t>> orders_;  ///< of parts
  std::vector<DeviceCandidate> candidates_, beside_disk_;
};

template <typename Visit>
void DeviceCandidates::for_each(Visit visit) const {
  for (const DeviceCandidate& candidate : candidates_) {
    if (candidate.least_slot_bytes == 0) {
      visit(candidate);
    } else {
      for (size_t ring = 0; ring < rings(); ++ring) visit(with_ring(candidate, ring));
    }
  }
}

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_PLAN_DEVICE_CANDIDATES_H_
