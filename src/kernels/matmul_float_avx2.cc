// Matrix product with float32 activations for AVX2: weights are decoded in registers.
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

template <PackedKind kKind>
inline __m256 load_elements(const std::byte* block, size_t k, int half) {
  if constexpr (kKind == PackedKind::kF32) return _mm256_loadu_ps(reinterpret_cast<const float*>(block + k * 64 + half * 32));
  if constexpr (kKind == PackedKind::kF16) return load_halves(block + k * 32 + half * 16);
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(block + k * 32 + half * 16));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
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
  if constexpr (kKind == PackedKind::kF32 || kKind == PackedKind::kF16 || kKind == PackedKind::kBF16) {
    for (size_t k = 0; k < args.columns; ++k) {
      OTR_UNROLLED(kHalves, h, { add_k<kTokens>(load_elements<kKind>(tile.block, k, h), src + k, args.src_stride, sums[h]); });
    }
  } else {
    add_groups<kKind, kTokens>(tile.block, src, args.src_stride, args.columns, sums);
  }
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
    case PackedKind::kF32:
      return run_kind<PackedKind::kF32>(args, block_begin, block_end);
    case PackedKind::kF16:
      return run_kind<PackedKind::kF16>(args, block_begin, block_end);
    case PackedKind::kBF16:
      return run_kind<PackedKind::kBF16>(args, block_begin, block_end);
    case PackedKind::kQ8_0:
      return run_kind<PackedKind::kQ8_0>(args, block_begin, block_end);
    case PackedKind::kQ4_0:
      return run_kind<PackedKind::kQ4_0>(args, block_begin, block_end);
    case PackedKind::kQ4_1:
      return run_kind<PackedKind::kQ4_1>(args, block_begin, block_end);
  }
}

}  // namespace outrigger
