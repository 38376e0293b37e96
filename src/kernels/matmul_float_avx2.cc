// Matrix product of quantised weights with float32 activations for AVX2: weights are decoded in registers.
#include "src/kernels/matmul_avx2.h"

namespace outrigger {
namespace {

// Tokens a loop takes at once: with 16 rows in two registers, 4 tokens' sums are 8 of the 16 registers.
constexpr size_t kLoopTokens = 4;

// sums[h][t] = fma(8 rows' weights of one k, activation, sums[h][t]).
template <int kTokens>
inline __attribute__((always_inline)) void add_k(__m256 weights, const float* src, size_t stride, __m256 (&sums)[kTokens]) {
  OTR_UNROLLED(kTokens, t, { sums[t] = _mm256_fmadd_ps(weights, _mm256_set1_ps(src[t * stride]), sums[t]); });
}

// The four successive k in the bytes of each lane of a quad, with the zero point `offset` added.
template <bool kHasMinimum, int kTokens>
inline __attribute__((always_inline)) void add_quad(__m256i quad, int offset, __m256 scale, __m256 minimum, const float* src, size_t stride,
                                                    __m256 (&sums)[kTokens]) {
  OTR_UNROLLED(4, i, {
    const __m256i byte = _mm256_and_si256(_mm256_srli_epi32(quad, i * 8), _mm256_set1_epi32(255));
    __m256 weights = _mm256_mul_ps(scale, _mm256_cvtepi32_ps(_mm256_sub_epi32(byte, _mm256_set1_epi32(offset))));
    if constexpr (kHasMinimum) weights = _mm256_add_ps(weights, minimum);  // not fused: the bits are dequantize()'s
    add_k<kTokens>(weights, src + i, stride, sums);
  });
}

template <PackedKind kKind, int kTokens>
__attribute__((always_inline)) inline void add_groups(const std::byte* block, const float* src, size_t stride, size_t columns,
                                                      __m256 (&sums)[kHalves][kTokens]) {
  constexpr bool kIsQ8 = kKind == PackedKind::kQ8_0, kIsQ41 = kKind == PackedKind::kQ4_1;
  constexpr size_t kCodeBytes = kIsQ8 ? 512 : 256, kPairBytes = kIsQ41 ? 640 : 64 + 2 * kCodeBytes;
  const __m256i low = _mm256_set1_epi8(15);
  for (size_t g = 0; g < columns / kGroup; ++g, src += kGroup) {
    const std::byte* pair = block + g / 2 * kPairBytes;
    const std::byte* scales = pair + g % 2 * (kIsQ41 ? 320 : 32);
    const std::byte* codes = kIsQ41 ? scales + 64 : pair + 64 + g % 2 * kCodeBytes;
    OTR_UNROLLED(kHalves, h, {
      const __m256 scale = load_halves(scales + h * 16), minimum = load_halves(scales + (kIsQ41 ? 32 : 0) + h * 16);
      for (int q = 0; q < 8; ++q) {
        __m256i quad = load_bytes(codes + (kIsQ8 ? q : q % 4) * 64 + h * 32);
        if constexpr (!kIsQ8) quad = _mm256_and_si256(q < 4 ? quad : _mm256_srli_epi16(quad, 4), low);
        add_quad<kIsQ41, kTokens>(quad, kIsQ8 ? 128 : kIsQ41 ? 0 : 8, scale, minimum, src + q * 4, stride, sums[h]);
      }
    });
  }
}

template <PackedKind kKind, int kTokens>
void run_part(const MatmulTile& tile, const MatmulArgs& args, size_t first) {
  __m256 sums[kHalves][kTokens];
  OTR_UNROLLED(kHalves, h, { OTR_UNROLLED(kTokens, t, { sums[h][t] = _mm256_setzero_ps(); }); });
  const float* src = tile.src + first * args.src_stride;
  add_groups<kKind, kTokens>(tile.block, src, args.src_stride, args.columns, sums);
  store_sums<kTokens>(sums, tile, first, args.dst_stride, args.accumulate);
}

template <PackedKind kKind>
void run_kind(const MatmulArgs& args, size_t block_begin, size_t block_end) {
  using Run = void (*)(const MatmulTile&, const MatmulArgs&, size_t);
  static constexpr Run kRuns[kLoopTokens] = {run_part<kKind, 1>, run_part<kKind, 2>, run_part<kKind, 3>, run_part<kKind, 4>};
  for_each_tile(args, block_begin, block_end, [&](const MatmulTile& tile, size_t tokens) {
    for (size_t first = 0; first < tokens; first += kLoopTokens) {
      const size_t left = tokens - first;
      kRuns[(left < kLoopTokens ? left : kLoopTokens) - 1](tile, args, first);
    }
  });
}

}  // namespace

void matmul_float_avx2(const MatmulArgs& args, size_t block_begin, size_t block_end) {
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
