// Matrix product of quantised weights with float32 activations for AVX2: the reference path. Weights are decoded a group at a time
// into memory, so that what depends on the format is compiled once per format, and what depends on the tokens once for all.
#include <utility>

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

// dst[k][row] = the values of a group's elements.
template <PackedKind kKind>
void decode_group(const std::byte* block, size_t group, float* dst) {
  constexpr GroupLayout kLayout = group_layout(kKind);
  for (int h = 0; h < kHalves; ++h) {
    Scales halves[2];
    load_float_scales<kKind>(load_unit_scales<kKind>(block + kLayout.unit_at(group), h), block + kLayout.scales_at(group), h, halves);
    OTR_UNROLLED(8, q, {
      const __m256i quad = load_quad<kKind, q>(block + kLayout.codes_at(group), h);
      const Scales& scales = halves[q / 4];
      for (int i = 0; i < 4; ++i) {
        // The four successive k in the bytes of each lane.
        const __m256i byte = _mm256_and_si256(_mm256_srli_epi32(quad, i * 8), _mm256_set1_epi32(255));
        const __m256i code = _mm256_sub_epi32(byte, _mm256_set1_epi32(kLayout.zero_point));
        __m256 weights = _mm256_mul_ps(scales.scale, _mm256_cvtepi32_ps(code));
        if constexpr (kLayout.has_minimum()) weights = _mm256_add_ps(weights, scales.minimum);  // not fused: the bits are dequantize()'s
        _mm256_store_ps(dst + static_cast<size_t>(q * 4 + i) * kPackRows + static_cast<size_t>(h) * kLanes, weights);
      }
    });
  }
}

using Decode = void (*)(const std::byte* block, size_t group, float* dst);

template <int kTokens>
void run_part(const MatmulTile& tile, const MatmulArgs& args, size_t first, Decode decode) {
  alignas(64) float weights[kPackGroup * kPackRows];
  __m256 sums[kHalves][kTokens];
  OTR_UNROLLED(kHalves, h, { OTR_UNROLLED(kTokens, t, { sums[h][t] = _mm256_setzero_ps(); }); });
  const float* src = tile.src + first * args.src_stride;
  for (size_t g = 0; g < args.columns / kPackGroup; ++g, src += kPackGroup) {
    decode(tile.block, g, weights);
    for (size_t k = 0; k < kPackGroup; ++k) {
      const __m256 low = _mm256_load_ps(weights + k * kPackRows), high = _mm256_load_ps(weights + k * kPackRows + kLanes);
      OTR_UNROLLED(kTokens, t, {
        const __m256 token = _mm256_set1_ps(src[k + t * args.src_stride]);
        sums[0][t] = _mm256_fmadd_ps(low, token, sums[0][t]);
        sums[1][t] = _mm256_fmadd_ps(high, token, sums[1][t]);
      });
    }
  }
  store_sums<kTokens>(sums, tile, first, args.dst_stride, args.accumulate);
}

// Tokens a loop takes at once: with 16 rows in two registers, 4 tokens' sums are 8 of the 16 registers.
constexpr int kLoopTokens = 4;

template <int... kCounts>
void run_tiles(const MatmulArgs& args, size_t block_begin, size_t block_end, Decode decode, std::integer_sequence<int, kCounts...>) {
  using Run = void (*)(const MatmulTile&, const MatmulArgs&, size_t, Decode);
  static constexpr Run kRuns[] = {run_part<kCounts + 1>...};
  for_each_tile(args, block_begin, block_end, [&](const MatmulTile& tile, size_t tokens) {
    for (size_t first = 0; first < tokens; first += kLoopTokens) {
      kRuns[std::min<size_t>(kLoopTokens, tokens - first) - 1](tile, args, first, decode);
    }
  });
}

template <PackedKind... kKinds>
Decode decode_of(PackedKind kind) {
  Decode found = nullptr;
  ((kind == kKinds ? void(found = decode_group<kKinds>) : void()), ...);
  return found;
}

}  // namespace

void matmul_float_avx2(const MatmulArgs& args, size_t block_begin, size_t block_end) {
  using enum PackedKind;
  const Decode decode =
      decode_of<kQ8_0, kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ2_K, kQ3_K, kQ4_K, kQ5_K, kQ6_K, kIQ4_NL, kIQ4_XS, kMXFP4, kO2, kO3, kO4, kN2, kN3,
                kN4, kO2_128, kO3_128, kO4_128, kN2_128, kN3_128, kN4_128>(args.kind);
  run_tiles(args, block_begin, block_end, decode, std::make_integer_sequence<int, kLoopTokens>());
}

}  // namespace outrigger
