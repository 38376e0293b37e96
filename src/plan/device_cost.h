// Device cost: the time a step's work takes on a device, and what the way there costs.
#ifndef OUTRIGGER_SRC_PLAN_DEVICE_COST_H_
#define OUTRIGGER_SRC_PLAN_DEVICE_COST_H_

#include <outrigger/machine_profile.h>
#include <outrigger/plan.h>
#include <outrigger/step_shape.h>

#include <array>
#include <cstdint>

#include "src/plan/handoff_size.h"
#include "src/plan/product_work.h"

namespace outrigger {

struct StepWork;

/// What is multiplied with, and how many layers' attention.
struct WorkSums {
  ProductWork products;
  double attention_layers = 0;

  WorkSums& operator+=(const WorkSums& other) {
    products += other.products, attention_layers += other.attention_layers;
    return *this;
  }
};

/// The same as a device sees it, which has one rate for all kinds: sums of many links are made of few numbers.
struct DeviceWork {
  double bytes = 0, weights = 0, attention_layers = 0;

  DeviceWork() = default;
  explicit DeviceWork(const WorkSums& work)
      : bytes(work.products.bytes()), weights(work.products.weights()), attention_layers(work.attention_layers) {}
  DeviceWork& operator+=(const DeviceWork& other) {
    bytes += other.bytes, weights += other.weights, attention_layers += other.attention_layers;
    return *this;
  }
};

/// Windows that the host corrects while the device multiplies with their matrices: of all layers those in the same place.
struct CorrectedWindows {
  DeviceWork there;
  ProductWork here;           ///< with branches
  double count = 0;
  double residual_bytes = 0;  ///< that a token reads here and there
  double input_bytes = 0, result_bytes = 0;  ///< a token's, over the link and back

  CorrectedWindows& operator+=(const CorrectedWindows& other);
  /// A matrix of this window, or a factor of its branches.
  void add(const MatrixShape& matrix);
};
/// A layer's windows: attention's two, the feed-forward block's two.
inline constexpr size_t kLayerWindows = 4;

/// What a step does on a device and over the link, whatever its size.
struct DeviceSums {
  WorkSums layers, heads;
  uint32_t uploads = 0, downloads = 0;            ///< of the residual, from part to part of the layers
  uint32_t head_uploads = 0, head_downloads = 0;  ///< the same to the head, if logits are wanted
  bool logits_download = false;
  uint64_t layer_upload_bytes = 0, head_upload_bytes = 0;  ///< of weights, through the ring
  DeviceWork disk_gap;                      ///< the longest stretch of the step that uses nothing of the host's: on the device
  std::array<CorrectedWindows, kLayerWindows> corrected;
  WorkSums link_gap_host;                   ///< the longest without anything that streams to the device
  DeviceWork link_gap_device;               ///< the same stretch's part there

  bool is_used() const { return layers.products.bytes() + heads.products.bytes() + layers.attention_layers > 0; }
};

/// One placement: its steps that stream weights to the device, and those too small for that.
struct DeviceLoad {
  DeviceSums small, large;
  uint32_t from_tokens = 0;  ///< of the smallest large step; 0: all are small
  uint32_t slots = 0;
  uint64_t slot_bytes = 0;

  const DeviceSums& sums(uint32_t tokens) const { return from_tokens > 0 && tokens >= from_tokens ? large : small; }
};

struct DeviceTime {
  double device_s = 0;                    ///< products, attention and the step's overhead
  double up_s = 0, down_s = 0;            ///< residuals and logits, for which the step waits
  double upload_s = 0;                    ///< weights
  double ring_s = 0;                      ///< of that, a ring full
  double disk_gap_s = 0, link_gap_s = 0;  ///< link_gap_s: the device's part of it
  double last_slot_s = 0;                 ///< the product with what comes last
};

/// All times are finite.
class DeviceRates {
 public:
  DeviceRates() = default;
  DeviceRates(const StepShape& shape, const MachineProfile& machine, const Workload& workload);

  /// Whether the profile says all that a plan needs to know of a device.
  static bool are_known(const MachineProfile& machine);

  DeviceTime time(const DeviceLoad& load, const StepWork& work) const;
  /// A device has one rate for all kinds of weights.
  double product_s(const ProductWork& work, double tokens) const { return product_s(work.bytes(), work.weights(), tokens); }
  /// One layer's.
  double attention_s(const StepWork& work) const;
  double overhead_s() const { return overhead_s_; }
  /// Whether a step's turns are handed over by words: of few tokens, where nothing streams to the device and it can.
  bool hands_words(double tokens, bool streams) const { return handoff_s_ > 0 && !streams && tokens <= kHandoffTokens; }
  /// The residual of so many tokens, one way or the other; logits.
  double up_s(double tokens, bool by_words) const { return way_s(tokens * residual_bytes_, h2d_, by_words); }
  double down_s(double tokens, bool by_words) const { return way_s(tokens * residual_bytes_, d2h_, by_words); }
  double logits_s(double rows) const { return latency_s_ + rows * logits_bytes_ / d2h_; }
  /// Of corrections: so many bytes of input to the host, of results to the device, and there a sum of them to what the device computed.
  double input_s(double bytes, bool by_words) const { return way_s(bytes, d2h_, by_words); }
  double result_s(double bytes, bool by_words) const { return way_s(bytes, h2d_, by_words); }
  double add_s(double bytes) const { return 3 * bytes / stream_; }
  /// A unit of weights. Each is asked for when a slot is free, and so pays the way to the device.
  double upload_s(uint64_t packed_bytes) const { return latency_s_ + kUnitHandOverS + static_cast<double>(packed_bytes) / h2d_; }

  double work_s(const DeviceWork& work, double tokens, double attention_s) const;

 private:
  double product_s(double bytes, double weights, double tokens) const;
  /// Half of each word is its number.
  double way_s(double bytes, double rate, bool by_words) const {
    return by_words ? handoff_s_ / 2 + 2 * bytes / rate : latency_s_ + bytes / rate;
  }

  /// From the end of a unit's product over two lanes' threads to the copy into its slot. On an H100, whose link takes 28 us for a MiB,
  /// units of that size came every 40.
  static constexpr double kUnitHandOverS = 25e-6;

  double stream_ = 1, int8_ = 1, small_ = 1, attention_ = 1, h2d_ = 1, d2h_ = 1, latency_s_ = 0, handoff_s_ = 0, overhead_s_ = 0;
  double residual_bytes_ = 0, logits_bytes_ = 0;
  double layer_kv_bytes_per_position_ = 0, layer_attention_flops_ = 0, layer_activation_flops_ = 0;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_PLAN_DEVICE_COST_H_
