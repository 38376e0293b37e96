// The product of quantised weights with float32 activations: exact, and not made for speed.
#ifndef OUTRIGGER_CUDA_KERNELS_MATMUL_PLAIN_H_
#define OUTRIGGER_CUDA_KERNELS_MATMUL_PLAIN_H_

#include "cuda/kernels/matmul_call.h"
#include "cuda/kernels/packed_group.h"
#include "src/kernels/activations.h"

namespace outrigger::cuda {

inline constexpr uint32_t kPlainWarps = 4;
inline constexpr uint32_t kPlainTokens = 8;

/// Writes a lane's share of the run's group i as floats to weights[k][row of 32].
template <PackedKind kKind>
OTR_DEVICE void expand(const LaneRun<kKind>& loaded, uint32_t i, const LanePlace& place, float (*weights)[kWarpRows]) {
  constexpr GroupLayout kLayout = group_layout(kKind);
  const LaneCodes codes = loaded.codes(i, place);
  const LaneScales scales = loaded.scales(i);
  OTR_UNROLL
  for (uint32_t r = 0; r < kLaneRows; ++r) {
    OTR_UNROLL
    for (uint32_t half = 0; half < 2; ++half) {
      float scale = scales.scale[r], minimum = kLayout.has_minimum() ? scales.minimum[r] : 0.0f;
      if constexpr (kLayout.has_halves()) {
        scale *= static_cast<float>(scales.sub_scale[r][half]);
        if constexpr (kLayout.has_minimum()) minimum *= static_cast<float>(scales.sub_minimum[r][half]);
      }
      OTR_UNROLL
      for (uint32_t b = 0; b < 4; ++b) {
        const auto code = static_cast<int32_t>(byte_of(half == 0 ? codes.lower[r] : codes.upper[r], b)) - kLayout.zero_point;
        const float product = scale * static_cast<float>(code);
        weights[half * 16 + place.quad * 4 + b][place.block * kPackRows + place.rows + r] =
            kLayout.has_minimum() ? product + minimum : product;
      }
    }
  }
}

/// Grid: tiles of 8 tokens, runs of 4 x 32 rows. A warp expands 32 rows of a group; each lane then goes through one row's.
template <PackedKind kKind>
OTR_KERNEL_OF(kPlainWarps* kWarp)
void matmul_plain_kernel(MatmulCall call) {
  OTR_SHARED float shared[kPlainWarps][kGroup][kWarpRows];
  const uint32_t warp = thread_index() / kWarp, lane = thread_index() % kWarp, strip = block_y() * kPlainWarps + warp;
  if (strip * kWarpRows >= call.rows) return;
  float(*const weights)[kWarpRows] = shared[warp];
  const LanePlace place(lane);
  const uint32_t first = block_x() * kPlainTokens, tokens = call.tokens - first < kPlainTokens ? call.tokens - first : kPlainTokens;
  const std::byte* const block = call.block(strip * 2 + place.block);
  float sums[kPlainTokens] = {};
  const uint32_t groups = call.columns / kGroup;
  for (uint32_t first_group = 0; first_group < groups; first_group += kRunGroups) {
    LaneRun<kKind> loaded;
    loaded.load(block, first_group / kRunGroups, groups, place);
    OTR_UNROLL
    for (uint32_t i = 0; i < kRunGroups; ++i) {
      if (first_group + i >= groups) continue;
      expand<kKind>(loaded, i, place, weights);
      sync_warp();
      for (uint32_t t = 0; t < tokens; ++t) {
        const float* const src = call.src + (first + t) * call.src_stride + (first_group + i) * kGroup;
        float sum = sums[t];
        for (uint32_t k = 0; k < kGroup; ++k) sum = fmaf(weights[k][lane], src[k], sum);
        sums[t] = sum;
      }
      sync_warp();
    }
  }
  const uint32_t row = strip * kWarpRows + lane;
  for (uint32_t t = 0; row < call.rows && t < tokens; ++t) call.store(row, first + t, sums[t]);
}

}  // namespace outrigger::cuda

#endif  // OUTRIGGER_CUDA_KERNELS_MATMUL_PLAIN_H_
