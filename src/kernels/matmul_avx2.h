// The two halves of the AVX2 matrix product, which live in files of their own, and how a tile's sums reach dst.
#ifndef OUTRIGGER_SRC_KERNELS_MATMUL_AVX2_H_
#define OUTRIGGER_SRC_KERNELS_MATMUL_AVX2_H_

#include "src/kernels/avx2.h"
#include "src/kernels/matmul_tiles.h"
#include "src/kernels/unroll.h"

namespace outrigger {

void matmul_int8_avx2(const MatmulArgs& args, size_t block_begin, size_t block_end);   ///< args.panel is given
void matmul_float_avx2(const MatmulArgs& args, size_t block_begin, size_t block_end);  ///< args.panel is null

namespace {

// The 16 rows of a row block, in two registers.
constexpr int kHalves = 2;

template <int kTokens>
__attribute__((always_inline)) inline void store_sums(const __m256 (&sums)[kHalves][kTokens], const MatmulTile& tile, size_t first_token,
                                                      size_t dst_stride, bool accumulate) {
  OTR_UNROLLED(kHalves, h, {
    const size_t first_row = static_cast<size_t>(h) * kLanes;
    if (tile.live_rows <= first_row) return;
    const __m256i live = lanes_below(tile.live_rows - first_row);
    OTR_UNROLLED(kTokens, t, {
      float* dst = tile.dst + (first_token + static_cast<size_t>(t)) * dst_stride + first_row;
      _mm256_maskstore_ps(dst, live, accumulate ? _mm256_add_ps(_mm256_maskload_ps(dst, live), sums[h][t]) : sums[h][t]);
    });
  });
}

}  // namespace
}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_MATMUL_AVX2_H_
