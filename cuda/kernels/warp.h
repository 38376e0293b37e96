// What the lanes of a warp find out together. All 32 call, and all get the result.
#ifndef OUTRIGGER_CUDA_KERNELS_WARP_H_
#define OUTRIGGER_CUDA_KERNELS_WARP_H_

#include "cuda/kernels/device_code.h"

namespace outrigger::cuda {

/// Bits of a magnitude from which on it is infinite or not a number. Magnitudes are in the order of their bits, NaNs the last.
inline constexpr uint32_t kFirstNotFinite = 0x7f800000;

/// Bits of the largest magnitude.
OTR_DEVICE uint32_t warp_largest_magnitude(float value) {
  uint32_t most = as_bits(value) & 0x7fffffff;
  OTR_UNROLL
  for (uint32_t mask = kWarp / 2; mask > 0; mask /= 2) {
    const uint32_t other = shuffle_xor(most, mask);
    most = most < other ? other : most;
  }
  return most;
}

/// The sum of `lanes` neighbouring lanes, a power of two, as it is folded in halves: each lane with the one half of them further on, until
/// one is left. An addition's bits do not depend on the order of its operands, so every lane has those of the first.
template <typename T>
OTR_DEVICE T fold_lanes(T value, uint32_t lanes) {
  for (uint32_t half = lanes / 2; half > 0; half /= 2) value += shuffle_xor(value, half);
  return value;
}

/// Lanes l .. l + 3, l a multiple of 4, have a byte each: their word.
OTR_DEVICE uint32_t pack_bytes(int32_t byte) {
  uint32_t word = (static_cast<uint32_t>(byte) & 255) << 8 * (thread_index() % 4);
  word |= shuffle_xor(word, 1);
  return word | shuffle_xor(word, 2);
}

}  // namespace outrigger::cuda

#endif  // OUTRIGGER_CUDA_KERNELS_WARP_H_
