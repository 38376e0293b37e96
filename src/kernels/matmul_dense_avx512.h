// The tile of the product of float weights for AVX-512, for whichever weights and activations. For files compiled with AVX-512 only.
#ifndef OUTRIGGER_SRC_KERNELS_MATMUL_DENSE_AVX512_H_
#define OUTRIGGER_SRC_KERNELS_MATMUL_DENSE_AVX512_H_

#include <array>
#include <utility>

#include "src/kernels/avx512.h"
#include "src/kernels/matmul_dense_tiles.h"
#include "src/kernels/unroll.h"

namespace outrigger {
namespace {

// A Kind says how weights meet activations: kStepBytes of weights a step, in which each sum takes kPasses additions; load<pass>(from,
// chain), where `from` is that of an even step and chain 1 the odd one after it; broadcast<pass>(src); add(sum, weights, word). From
// kPairTokens tokens on it takes two row blocks at once, so that a word is loaded once for both; with fewer, memory is the bound, and one
// stream is read faster than two. kMostOfOne and kMostOfTwo tokens make a tile: the sums of both chains, weights, a word and what the Kind
// needs must fit 32 registers.

template <typename Kind, int kBlocks, int kTokens>
__attribute__((always_inline)) inline void add_step(const std::byte* weights, size_t block_bytes, const std::byte* src, size_t stride,
                                                    int chain, __m512 (&sums)[kBlocks * kTokens]) {
  OTR_UNROLLED(Kind::kPasses, pass, {
    typename Kind::Register loaded[kBlocks];
    OTR_UNROLLED(kBlocks, b, { loaded[b] = Kind::template load<pass>(weights + b * block_bytes, chain); });
    OTR_UNROLLED(kTokens, t, {
      const typename Kind::Register word = Kind::template broadcast<pass>(src + t * stride);
      OTR_UNROLLED(kBlocks, b, { Kind::add(sums[t * kBlocks + b], loaded[b], word); });
    });
  });
}

template <typename Kind, int kBlocks, int kTokens>
void run_dense_tile(const DenseTile& tile) {
  constexpr int kSums = kBlocks * kTokens;
  constexpr size_t kTwoSteps = kDenseChains * Kind::kStepBytes;
  __m512 even[kSums], odd[kSums];
  OTR_UNROLLED(kSums, i, {
    even[i] = tile.is_first_part ? _mm512_setzero_ps() : _mm512_loadu_ps(tile.carry + (2 * i) * kLanes);
    odd[i] = tile.is_first_part ? _mm512_setzero_ps() : _mm512_loadu_ps(tile.carry + (2 * i + 1) * kLanes);
  });
  const std::byte* weights = tile.weights;
  const std::byte* src = tile.src;
  const size_t block_bytes = tile.block_bytes, stride = tile.src_stride_bytes;
  const ptrdiff_t ahead0 = tile.ahead[0] ? tile.ahead[0] - weights : 0, ahead1 = tile.ahead[1] ? tile.ahead[1] - weights : 0;
  for (size_t step = 1; step < tile.steps; step += kDenseChains, weights += kTwoSteps, src += kDenseChains * 4) {
    if (ahead0 != 0) {
      OTR_UNROLLED(kTwoSteps / 64, i, { _mm_prefetch(weights + ahead0 + i * 64, _MM_HINT_T1); });
    }
    if (kBlocks > 1 && ahead1 != 0) {
      OTR_UNROLLED(kTwoSteps / 64, i, { _mm_prefetch(weights + ahead1 + i * 64, _MM_HINT_T1); });
    }
    add_step<Kind, kBlocks, kTokens>(weights, block_bytes, src, stride, 0, even);
    add_step<Kind, kBlocks, kTokens>(weights, block_bytes, src + 4, stride, 1, odd);
  }
  if (tile.steps % kDenseChains != 0) add_step<Kind, kBlocks, kTokens>(weights, block_bytes, src, stride, 0, even);

  if (!tile.is_last_part) {
    OTR_UNROLLED(kSums, i, {
      _mm512_storeu_ps(tile.carry + (2 * i) * kLanes, even[i]);
      _mm512_storeu_ps(tile.carry + (2 * i + 1) * kLanes, odd[i]);
    });
    return;
  }
  OTR_UNROLLED(kBlocks, b, {
    const size_t first_row = static_cast<size_t>(b) * kLanes;
    const __mmask16 live = tile.live_rows > first_row ? lanes_below(tile.live_rows - first_row) : __mmask16{0};
    OTR_UNROLLED(kTokens, t, {
      float* const dst = tile.dst + t * tile.dst_stride + first_row;
      const __m512 sum = _mm512_add_ps(even[t * kBlocks + b], odd[t * kBlocks + b]);
      _mm512_mask_storeu_ps(dst, live, tile.accumulate ? _mm512_add_ps(_mm512_maskz_loadu_ps(live, dst), sum) : sum);
    });
  });
}

using DenseRun = void (*)(const DenseTile&);

// The tiles of 1, 2, ... tokens.
template <typename Kind, int kBlocks, int... kIndices>
constexpr std::array<DenseRun, sizeof...(kIndices)> dense_runs(std::integer_sequence<int, kIndices...>) {
  return {run_dense_tile<Kind, kBlocks, kIndices + 1>...};
}

template <typename Kind>
void run_dense(const MatmulArgs& args, size_t steps, const std::byte* src, size_t src_stride_bytes, size_t block_begin, size_t block_end) {
  static constexpr auto kOne = dense_runs<Kind, 1>(std::make_integer_sequence<int, Kind::kMostOfOne>());
  static constexpr auto kTwo = dense_runs<Kind, 2>(std::make_integer_sequence<int, Kind::kMostOfTwo>());
  const DenseShape shape = {Kind::kStepBytes, steps, src, src_stride_bytes, Kind::kPairTokens, {Kind::kMostOfOne, Kind::kMostOfTwo}};
  for_each_dense_tile(args, shape, block_begin, block_end, [](const DenseTile& tile, size_t blocks, size_t tokens) {
    (blocks == 1 ? kOne[tokens - 1] : kTwo[tokens - 1])(tile);
  });
}

}  // namespace
}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_MATMUL_DENSE_AVX512_H_
