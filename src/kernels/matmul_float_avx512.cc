// Matrix product of quantised weights with float32 activations for AVX-512: weights are decoded in registers.
#include "src/kernels/avx512.h"
#include "src/kernels/matmul_avx512.h"
#include "src/kernels/matmul_store_avx512.h"

namespace outrigger {
namespace {

// sums[t] = fma(16 rows' weights of one k, activation, sums[t]).
template <int kTokens>
inline __attribute__((always_inline)) void add_k(__m512 weights, const float* src, size_t stride, __m512 (&sums)[kTokens]) {
  OTR_UNROLLED(kTokens, t, { sums[t] = _mm512_fmadd_ps(weights, _mm512_set1_ps(src[t * stride]), sums[t]); });
}

// A quad holds the codes of four successive k of each row in the bytes of a lane, with the zero point `offset` added.
template <int kTokens>
inline __attribute__((always_inline)) void add_quad(__m512i quad, int offset, __m512 scale, const __m512* minimum, const float* src,
                                                    size_t stride, __m512 (&sums)[kTokens]) {
  const __m512i low = _mm512_set1_epi32(255);
  OTR_UNROLLED(4, i, {
    const __m512i code = _mm512_sub_epi32(_mm512_and_si512(_mm512_srli_epi32(quad, i * 8), low), _mm512_set1_epi32(offset));
    __m512 weights = _mm512_mul_ps(scale, _mm512_cvtepi32_ps(code));  // not fused with the minimum: the bits are dequantize()'s
    if (minimum) weights = _mm512_add_ps(weights, *minimum);
    add_k<kTokens>(weights, src + i, stride, sums);
  });
}

template <PackedKind kKind, int kTokens>
__attribute__((always_inline)) inline void add_groups(const std::byte* block, const float* src, size_t stride, size_t columns,
                                                      __m512 (&sums)[kTokens]) {
  constexpr bool kIsQ8 = kKind == PackedKind::kQ8_0, kIsQ41 = kKind == PackedKind::kQ4_1;
  constexpr size_t kCodeBytes = kIsQ8 ? 512 : 256, kPairBytes = kIsQ41 ? 640 : 64 + 2 * kCodeBytes;
  const __m512i low = _mm512_set1_epi8(15);
  for (size_t g = 0; g < columns / kGroup; ++g, src += kGroup) {
    const std::byte* pair = block + g / 2 * kPairBytes;
    const std::byte* scales = pair + g % 2 * (kIsQ41 ? 320 : 32);
    const std::byte* codes = kIsQ41 ? scales + 64 : pair + 64 + g % 2 * kCodeBytes;
    const __m512 scale = load_halves(scales), minimum = load_halves(scales + (kIsQ41 ? 32 : 0));
    const __m512* added = kIsQ41 ? &minimum : nullptr;
    for (int q = 0; q < 8; ++q) {
      __m512i quad = _mm512_loadu_si512(codes + (kIsQ8 ? q : q % 4) * 64);
      if constexpr (!kIsQ8) quad = _mm512_and_si512(q < 4 ? quad : _mm512_srli_epi16(quad, 4), low);
      add_quad<kTokens>(quad, kIsQ8 ? 128 : kIsQ41 ? 0 : 8, scale, added, src + q * 4, stride, sums);
    }
  }
}

template <PackedKind kKind, int kTokens>
void run_tile(const MatmulTile& tile, const MatmulArgs& args) {
  __m512 sums[kTokens];
  OTR_UNROLLED(kTokens, t, { sums[t] = _mm512_setzero_ps(); });
  add_groups<kKind, kTokens>(tile.block, tile.src, args.src_stride, args.columns, sums);
  store_sums<kTokens>(sums, tile, args.dst_stride, args.accumulate);
}

template <PackedKind kKind>
void run_kind(const MatmulArgs& args, size_t block_begin, size_t block_end) {
  using Run = void (*)(const MatmulTile&, const MatmulArgs&);
  static constexpr Run kRuns[kTokenTile] = {run_tile<kKind, 1>, run_tile<kKind, 2>, run_tile<kKind, 3>, run_tile<kKind, 4>,
                                            run_tile<kKind, 5>, run_tile<kKind, 6>, run_tile<kKind, 7>, run_tile<kKind, 8>};
  for_each_tile(args, block_begin, block_end, [&](const MatmulTile& tile, size_t tokens) { kRuns[tokens - 1](tile, args); });
}

}  // namespace

void matmul_float_avx512(const MatmulArgs& args, size_t block_begin, size_t block_end) {
  switch (args.kind) {
    case PackedKind::kQ8_0:
      return run_kind<PackedKind::kQ8_0>(args, block_begin, block_end);
    case PackedKind::kQ4_0:
      return run_kind<PackedKind::kQ4_0>(args, block_begin, block_end);
    case PackedKind::kQ4_1:
      return run_kind<PackedKind::kQ4_1>(args, block_begin, block_end);
    case PackedKind::kF32:
    case PackedKind::kF16:
    case PackedKind::kBF16:
      break;  // matmul_dense.h's
  }
}

}  // namespace outrigger
