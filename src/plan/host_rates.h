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
  double product_s(const ProductWork& work, double tokens, bool beside_link = false) const;
  /// Of weights of which the share `streamed` is packed first, by the threads that multiply with it.
  double partly_streamed_product_s(const ProductWork& work, double tokens, double streamed, bool beside_link) const;
  /// Of weights that all stream.
  double streamed_product_s(const ProductWork& work, double tokens) const { return unpack_s(work) + arithmetic_s(work, tokens); }
  /// By one thread, which waits for reads, too.
  double lone_repack_s(const ProductWork& work) const;
  double stream() const { return stream_; }

 private:
  struct Rates {
    double int8 = 0, float32 = 0, bf16 = 0;
  };
  double arithmetic_s(const ProductWork& work, double tokens) const;
  double unpack_s(const ProductWork& work) const;

  Rates many_, few_;
  double stream_, busy_stream_;
  double repack_, float_repack_;            // a thread's
  double unpack_, float_unpack_;  // all threads', of which none is faster than memory
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_PLAN_HOST_RATES_H_
