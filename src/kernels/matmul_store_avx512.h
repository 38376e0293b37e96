// How a tile's sums reach dst. For files compiled with AVX-512 only.
#ifndef OUTRIGGER_SRC_KERNELS_MATMUL_STORE_AVX512_H_
#define OUTRIGGER_SRC_KERNELS_MATMUL_STORE_AVX512_H_

#include "src/kernels/avx512.h"
#include "src/kernels/matmul_tiles.h"
#include "src/kernels/unroll.h"

namespace outrigger {
namespace {

template <int kTokens>
__attribute__((always_inline)) inline void store_sums(const __m512 (&sums)[kTokens], const MatmulTile& tile, size_t dst_stride,
                                                      bool accumulate) {
  const __mmask16 live = lanes_below(tile.live_rows);
  OTR_UNROLLED(kTokens, t, {
    float* dst = tile.dst + t * dst_stride;
    _mm512_mask_storeu_ps(dst, live, accumulate ? _mm512_add_ps(_mm512_maskz_loadu_ps(live, dst), sums[t]) : sums[t]);
  });
}

}  // namespace
}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_MATMUL_STORE_AVX512_H_
