// Int8 activations of a group: what a warp does with 32 elements of a row.
#ifndef OUTRIGGER_CUDA_KERNELS_QUANTIZE_GROUP_H_
#define OUTRIGGER_CUDA_KERNELS_QUANTIZE_GROUP_H_

#include "cuda/kernels/device_code.h"
#include "cuda/kernels/panel_place.h"
#include "cuda/kernels/warp.h"
#include "src/kernels/panel.h"

namespace outrigger::cuda {

static_assert(kGroup == kWarp);

/// Stores the group's codes, scale and sums. All 32 lanes call. `x` is the lane's element; returns what its code lost, as
/// quantization_remainder has it.
OTR_DEVICE float quantize_group(const QuantizeArgs& args, size_t token, uint32_t group, float x) {
  const uint32_t lane = thread_index() % kWarp;
  const uint32_t most = warp_largest_magnitude(x);
  const float amax = as_float(most);
  const bool is_finite = most < kFirstNotFinite, has_codes = is_finite && amax >= kLeastAmax;
  const float inverse = has_codes ? 127 / amax : 0, scale = has_codes ? amax / 127 : is_finite ? 0 : as_float(0x7fc00000);
  const int32_t code = has_codes ? static_cast<int32_t>(nearbyintf(x * inverse)) : 0;
  const float lost = x - static_cast<float>(code) * scale;

  const int32_t half = fold_lanes(code, kWarp / 2), first_half = shuffle_from(half, 0), second_half = shuffle_from(half, kWarp / 2);
  const uint32_t codes = pack_bytes(code);
  const PanelPlace place(args, token, group);
  if (lane % 4 == 0) place.codes()[lane / 4] = codes;
  if (lane < 4) {
    const int32_t sum = first_half + second_half;
    const float scaled_sum = is_finite ? scale * static_cast<float>(sum) : scale;
    const uint32_t negative_halves = (static_cast<uint32_t>(-first_half) & 0xffff) | static_cast<uint32_t>(-second_half) << 16;
    *place.word(lane) = lane == 0   ? as_bits(scale)
                        : lane == 1 ? as_bits(scaled_sum)
                        : lane == 2 ? static_cast<uint32_t>(-sum)
                                    : negative_halves;
  }
  return lost;
}

}  // namespace outrigger::cuda

#endif  // OUTRIGGER_CUDA_KERNELS_QUANTIZE_GROUP_H_
