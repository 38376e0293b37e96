// Int8 activations: a group of 32 elements a warp.
#include "cuda/kernels/device_code.h"
#include "cuda/kernels/ops.h"
#include "cuda/kernels/panel_place.h"
#include "cuda/kernels/warp.h"
#include "src/kernels/panel.h"

namespace outrigger::cuda {
namespace {

constexpr uint32_t kGroupsOfBlock = 4;
constexpr uint32_t kThreads = kGroupsOfBlock * kWarp;
static_assert(kGroup == kWarp);

OTR_KERNEL_OF(kThreads) void quantize_kernel(QuantizeArgs args, size_t first_token) {
  const uint32_t group = block_x() * kGroupsOfBlock + thread_index() / kWarp, lane = thread_index() % kWarp;
  const size_t token = first_token + block_y();
  if (group >= args.width / kGroup) return;
  const float x = args.src[token * args.src_stride + group * kGroup + lane];
  const uint32_t most = warp_largest_magnitude(x);
  const float amax = as_float(most);
  const bool is_finite = most < kFirstNotFinite, has_codes = is_finite && amax >= kLeastAmax;
  const float inverse = has_codes ? 127 / amax : 0, scale = has_codes ? amax / 127 : is_finite ? 0 : as_float(0x7fc00000);
  const int32_t code = has_codes ? static_cast<int32_t>(nearbyintf(x * inverse)) : 0;

  const int32_t half = fold_lanes(code, kWarp / 2), first_half = shuffle_from(half, 0), second_half = shuffle_from(half, kWarp / 2);
  const uint32_t codes = pack_bytes(code);
  const PanelPlace place(args, token, group);
  if (lane % 4 == 0) place.codes()[lane / 4] = codes;
  if (lane >= 4) return;
  const int32_t sum = first_half + second_half;
  const float scaled_sum = is_finite ? scale * static_cast<float>(sum) : scale;
  const uint32_t negative_halves = (static_cast<uint32_t>(-first_half) & 0xffff) | static_cast<uint32_t>(-second_half) << 16;
  *place.word(lane) = lane == 0   ? as_bits(scale)
                      : lane == 1 ? as_bits(scaled_sum)
                      : lane == 2 ? static_cast<uint32_t>(-sum)
                                  : negative_halves;
}

}  // namespace

CudaCode launch_op(const Launcher& launcher, const QuantizeArgs& args) {
  return launch_tokens(args.tokens, [&](size_t first, uint32_t tokens) {
    return launch(launcher, quantize_kernel, {{blocks_of(args.width / kGroup, kGroupsOfBlock), tokens}, kThreads}, args, first);
  });
}

}  // namespace outrigger::cuda
