// The softmax of a part of the positions, as src/kernels cuts and sums it.
#ifndef OUTRIGGER_CUDA_KERNELS_ATTENTION_SOFTMAX_H_
#define OUTRIGGER_CUDA_KERNELS_ATTENTION_SOFTMAX_H_

#include "cuda/kernels/attention_job.h"
#include "cuda/kernels/exp.h"
#include "cuda/kernels/warp.h"

namespace outrigger::cuda {

/// What is known of a row's weights in a part.
struct PartSoftmax {
  float shrinks[kSoftBlocks];  ///< what is summed before each block of positions is multiplied with: 1 where the largest score stays
  float max, total;            ///< the largest score, and the sum of the weights relative to it
};

/// Weights are summed by lane of the position, and the lanes folded. No weight is -0, so that adding 0 for none changes nothing.
OTR_DEVICE float sum_weights(const float* weights, uint32_t count, const float (&shrinks)[kSoftBlocks]) {
  float sum = 0;
  OTR_UNROLL
  for (uint32_t b = 0; b < kSoftBlocks; ++b) {
    if (b * kSoftBlock >= count) break;
    sum *= shrinks[b];
    OTR_UNROLL
    for (uint32_t i = 0; i < kSoftBlock; i += kKvInterleave) {
      const uint32_t p = b * kSoftBlock + i + thread_index() % kKvInterleave;
      sum += p < count ? weights[p] : 0;
    }
  }
  return fold_lanes(sum, kKvInterleave);
}

/// A warp: `count` scores of a part, in shared memory, become weights relative to the largest score so far at each block of positions.
OTR_DEVICE PartSoftmax soften_part(float* scores, uint32_t count) {
  constexpr float kNothing = -INFINITY;
  const uint32_t lane = thread_index() % kWarp;
  float largest[kSoftBlocks];
  OTR_UNROLL
  for (uint32_t b = 0; b < kSoftBlocks; ++b) {
    largest[b] = kNothing;
    OTR_UNROLL
    for (uint32_t p = b * kSoftBlock; p < (b + 1) * kSoftBlock; p += kWarp) {
      if (p + lane < count) largest[b] = fmaxf(largest[b], scores[p + lane]);
    }
  }
  OTR_UNROLL
  for (uint32_t mask = kWarp / 2; mask > 0; mask /= 2) {
    OTR_UNROLL
    for (uint32_t b = 0; b < kSoftBlocks; ++b) largest[b] = fmaxf(largest[b], shuffle_xor(largest[b], mask));
  }
  PartSoftmax softmax{{}, kNothing, 0};
  OTR_UNROLL
  for (uint32_t b = 0; b < kSoftBlocks; ++b) {
    const float before = softmax.max;
    softmax.max = fmaxf(before, largest[b]);
    softmax.shrinks[b] = softmax.max == before ? 1 : exp_of(before - softmax.max);
    OTR_UNROLL
    for (uint32_t p = b * kSoftBlock; p < (b + 1) * kSoftBlock; p += kWarp) {
      if (p + lane < count) scores[p + lane] = exp_of(scores[p + lane] - softmax.max);
    }
  }
  sync_warp();
  softmax.total = sum_weights(scores, count, softmax.shrinks);
  return softmax;
}

}  // namespace outrigger::cuda

#endif  // OUTRIGGER_CUDA_KERNELS_ATTENTION_SOFTMAX_H_
