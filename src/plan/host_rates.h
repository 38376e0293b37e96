// Host rates: the time of products on the host's threads, of weights in memory and of those that have just been read.
#ifndef OUTRIGGER_SRC_PLAN_HOST_RATES_H_
#define OUTRIGGER_SRC_PLAN_HOST_RATES_H_

#include <outrigger/machine_profile.h>

#include "src/plan/product_work.h"

namespace outrigger {

/// The steps that the profile's small batch rates were measured for.
inline constexpr double kSmallBatchTokens = 8;

/// All times are finite, and grow with each number of a ProductWork; weights that stream never take less time than weights in memory.
class HostRates {
 public:
  /// Precondition: that of CostModel.
  explicit HostRates(const MachineProfile& machine);

  /// Of weights in memory; `beside_link`: while the link brings weights to a device, from the same memory.
  double product_s(const ProductWork& work, double tokens, bool beside_link = false) const {
    return partly_streamed_product_s(work, tokens, 0, beside_link);
  }
  /// Of weights that stream.
  double streamed_product_s(const ProductWork& work, double tokens) const { return partly_streamed_product_s(work, tokens, 1, false); }
  /// Of weights of which a share streams, the same of each kind: packed first, by the threads that multiply with it, and multiplied with in
  /// the cache that it was packed into. Packing and arithmetic add up there; of weights in memory the longer of reading and arithmetic
  /// counts.
  double partly_streamed_product_s(const ProductWork& work, double tokens, double streamed, bool beside_link) const;
  double stream() const { return stream_; }

 private:
  struct Kind {
    double many = 0, few = 0;     // operations
    double unpack = 0;            // bytes, by all threads, and not faster than memory
  };
  double part_s(const ProductWork::Part& part, const Kind& kind, double tokens, double streamed, bool beside_link) const;

  double stream_, busy_stream_;
  Kind int8_, float32_, bf16_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_PLAN_HOST_RATES_H_
