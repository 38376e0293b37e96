// JoinedOps: operations that wait for those that come next, to be launched as one: products of a window, or a norm and what is made of it.
#ifndef OUTRIGGER_CUDA_DEVICE_JOINED_OPS_H_
#define OUTRIGGER_CUDA_DEVICE_JOINED_OPS_H_

#include "cuda/device/joined_norm.h"
#include "cuda/device/joined_products.h"

namespace outrigger::cuda {

/// Not thread-safe; allocates nothing.
class JoinedOps {
 public:
  bool is_empty() const { return products_.is_empty() && norm_.is_empty(); }
  /// Takes the operation if nothing waits and others may join it, or if it joins those that wait.
  bool add(const DeviceOp& op) {
    const auto* const product = std::get_if<MatmulArgs>(&op);
    if (product != nullptr) return norm_.is_empty() && products_.add(*product);
    return products_.is_empty() && norm_.add(op);
  }
  /// How many launches those that wait take.
  size_t launches() const { return norm_.launches() + (products_.is_empty() ? 0 : 1); }
  /// Submits those that wait, which then are none. Returns the runtime's code.
  CudaCode launch(const Launcher& launcher) {
    return products_.is_empty() ? norm_.launch(launcher) : launch_products(launcher, products_.take());
  }

 private:
  JoinedProducts products_;
  JoinedNorm norm_;
};

}  // namespace outrigger::cuda

#endif  // OUTRIGGER_CUDA_DEVICE_JOINED_OPS_H_
