// JoinedProducts: products that wait for others of the same tokens, to be launched as one.
#ifndef OUTRIGGER_CUDA_DEVICE_JOINED_PRODUCTS_H_
#define OUTRIGGER_CUDA_DEVICE_JOINED_PRODUCTS_H_

#include <array>
#include <span>

#include "cuda/kernels/ops.h"

namespace outrigger::cuda {

/// The matrices of a window read the same activations, and some are too small to keep a card busy alone. They come one after the other, so
/// the first waits for what its stream is given next. Not thread-safe; allocates nothing.
class JoinedProducts {
 public:
  bool is_empty() const { return count_ == 0; }

  /// Takes the product, if there are none yet or if it may be launched together with those that wait: they could be joined, and neither
  /// writes what the other does. What they read is the same, and no product's result.
  bool add(const MatmulArgs& args);
  /// Those that wait, which then are none; valid until the next add().
  std::span<const MatmulArgs> take();

 private:
  std::array<MatmulArgs, kMostJoined> products_{};
  size_t count_ = 0;
};

}  // namespace outrigger::cuda

#endif  // OUTRIGGER_CUDA_DEVICE_JOINED_PRODUCTS_H_
