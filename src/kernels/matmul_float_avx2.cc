// Matrix product of quantised weights with float32 activations for AVX2: weights are decoded in registers.
#include "src/kernels/matmul_avx2.h"
#include "src/kernels/matmul_weights_avx2.h"

namespace outrigger {
namespace {

// The steps and minima of a group's two halves: the same for both where the group has one scale.
template <PackedKind kKind>
inline void load_float_scales(const Scales& unit, const std::byte* src, int rows, Scales (&halves)[2]) {
  constexpr GroupLayout kLayout = group_layout(kKind);
  if constexpr (!kLayout.has_halves()) {
    halves[0] = halves[1] = load_group_scales<kKind>(unit, src, rows);
  } else {
    const HalfScales whole = load_half_scales<kKind>(src, rows);
    const __m256i scales[2] = {_mm256_srai_epi32(_mm256_slli_epi32(whole.scales, 16), 16), _mm256_srai_epi32(whole.scales, 16)};
    const __m256i minima[2] = {_mm256_and_si256(whole.minima, _mm256_set1_epi32(0xffff)), _mm256_srli_epi32(whole.minima, 16)};
    for (int h = 0; h < 2; ++h) {
      halves[h].scale = _mm256_mul_ps(unit.scale, _mm256_cvtepi32_ps(scales[h]));
      const __m256 minimum = _mm256_mul_ps(unit.minimum, _mm256_cvtepi32_ps(minima[h]));
      halves[h].minimum = _mm256_xor_ps(minimum, _mm256_set1_ps(-0.0f));
    }
  }
}

// The four successive k in the bytes of each lane of a quad.
template <PackedKind kKind, int kTokens>
inline __attribute__((always_inline)) void add_quad(__m256i quad, const Scales& scales, const float* src, size_t stride,
                                                    __m256 (&sums)[kTokens]) {
  constexpr GroupLayout kLayout = group_layout(kKind);
  OTR_UNROLLED(4, i, {
    const __m256i byte = _mm256_and_si256(_mm256_srli_epi32(quad, i * 8), _mm256_set1_epi32(255));
    const __m256i code = _mm256_sub_epi32(byte, _mm256_set1_epi32(kLayout.zero_point));
    __m256 weights = _mm256_mul_ps(scales.scale, _mm256_cvtepi32_ps(code));
    if constexpr (kLayout.has_minimum()) weights = _mm256_add_ps(weights, scales.minimum);  // not fused: the bits are dequantize()'s
    OTR_UNROLLED(kTokens, t, { sums[t] = _mm256_fmadd_ps(weights, _mm256_set1_ps(src[i + t * stride]), sums[t]); });
  });
}

template <PackedKind kKind, int kTokens>
struct FloatTile {
  static void run(const MatmulTile& tile, const MatmulArgs& args, size_t first, size_t) {
    constexpr GroupLayout kLayout = group_layout(kKind);
    __m256 sums[kHalves][kTokens];
    OTR_UNROLLED(kHalves, h, { OTR_UNROLLED(kTokens, t, { sums[h][t] = _mm256_setzero_ps(); }); });
    const float* src = tile.src + first * args.src_stride;
    for (size_t g = 0; g < args.columns / kPackGroup; ++g, src += kPackGroup) {
      OTR_UNROLLED(kHalves, h, {
        Scales halves[2];
        load_float_scales<kKind>(load_unit_scales<kKind>(tile.block + kLayout.unit_at(g), h), tile.block + kLayout.scales_at(g), h, halves);
        OTR_UNROLLED(8, q, {
          const __m256i quad = load_quad<kKind, q>(tile.block + kLayout.codes_at(g), h);
          add_quad<kKind, kTokens>(quad, halves[q / 4], src + q * 4, args.src_stride, sums[h]);
        });
      });
    }
    store_sums<kTokens>(sums, tile, first, args.dst_stride, args.accumulate);
  }
};

// Tokens a loop takes at once: with 16 rows in two registers, 4 tokens' sums are 8 of the 16 registers.
constexpr int kLoopTokens = 4;

}  // namespace

void matmul_float_avx2(const MatmulArgs& args, size_t block_begin, size_t block_end) {
  using enum PackedKind;
  run_kinds<FloatTile, kLoopTokens, kQ8_0, kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ2_K, kQ3_K, kQ4_K, kQ5_K, kQ6_K, kIQ4_NL, kIQ4_XS, kMXFP4>(
      args, block_begin, block_end);
}

}  // namespace outrigger
