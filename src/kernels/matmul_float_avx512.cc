// Matrix product of quantised weights with float32 activations for AVX-512: weights are decoded in registers.
#include "src/kernels/matmul_avx512.h"
#include "src/kernels/matmul_store_avx512.h"
#include "src/kernels/matmul_weights_avx512.h"

namespace outrigger {
namespace {

// The steps and minima of a group's two halves: the same for both where the group has one scale.
template <PackedKind kKind>
inline void load_float_scales(const Scales& unit, const std::byte* src, Scales (&halves)[2]) {
  constexpr GroupLayout kLayout = group_layout(kKind);
  if constexpr (!kLayout.has_halves()) {
    halves[0] = halves[1] = load_group_scales<kKind>(unit, src);
  } else {
    const HalfScales whole = load_half_scales<kKind>(src);
    const __m512i scales[2] = {whole.first(), whole.second()};
    const __m512i minima[2] = {_mm512_and_si512(whole.minima, _mm512_set1_epi32(0xffff)), _mm512_srli_epi32(whole.minima, 16)};
    for (int h = 0; h < 2; ++h) {
      halves[h].scale = _mm512_mul_ps(unit.scale, _mm512_cvtepi32_ps(scales[h]));
      const __m512 minimum = _mm512_mul_ps(unit.minimum, _mm512_cvtepi32_ps(minima[h]));
      halves[h].minimum = _mm512_xor_ps(minimum, _mm512_set1_ps(-0.0f));
    }
  }
}

// A quad holds the codes of four successive k of each row in the bytes of a lane.
template <PackedKind kKind, int kTokens>
inline __attribute__((always_inline)) void add_quad(__m512i quad, const Scales& scales, const float* src, size_t stride,
                                                    __m512 (&sums)[kTokens]) {
  constexpr GroupLayout kLayout = group_layout(kKind);
  OTR_UNROLLED(4, i, {
    const __m512i byte = _mm512_and_si512(_mm512_srli_epi32(quad, i * 8), _mm512_set1_epi32(255));
    const __m512i code = _mm512_sub_epi32(byte, _mm512_set1_epi32(kLayout.zero_point));
    __m512 weights = _mm512_mul_ps(scales.scale, _mm512_cvtepi32_ps(code));
    if constexpr (kLayout.has_minimum()) weights = _mm512_add_ps(weights, scales.minimum);  // not fused: the bits are dequantize()'s
    OTR_UNROLLED(kTokens, t, { sums[t] = _mm512_fmadd_ps(weights, _mm512_set1_ps(src[i + t * stride]), sums[t]); });
  });
}

template <PackedKind kKind, int kTokens>
struct FloatTile {
  static void run(const MatmulTile& tile, const MatmulArgs& args, size_t, size_t) {
    constexpr GroupLayout kLayout = group_layout(kKind);
    __m512 sums[kTokens];
    OTR_UNROLLED(kTokens, t, { sums[t] = _mm512_setzero_ps(); });
    const float* src = tile.src;
    for (size_t g = 0; g < args.columns / kPackGroup; ++g, src += kPackGroup) {
      __m512i quads[8];
      load_codes<kKind>(tile.block + kLayout.codes_at(g), quads);
      Scales halves[2];
      load_float_scales<kKind>(load_unit_scales<kKind>(tile.block + kLayout.unit_at(g)), tile.block + kLayout.scales_at(g), halves);
      for (int q = 0; q < 8; ++q) add_quad<kKind, kTokens>(quads[q], halves[q / 4], src + q * 4, args.src_stride, sums);
    }
    store_sums<kTokens>(sums, tile, args.dst_stride, args.accumulate);
  }
};

}  // namespace

void matmul_float_avx512(const MatmulArgs& args, size_t block_begin, size_t block_end) {
  using enum PackedKind;
  run_kinds<FloatTile, kTokenTile, kQ8_0, kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ2_K, kQ3_K, kQ4_K, kQ5_K, kQ6_K, kIQ4_NL, kIQ4_XS, kMXFP4>(
      args, block_begin, block_end);
}

}  // namespace outrigger
