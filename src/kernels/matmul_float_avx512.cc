// Matrix product of quantised weights with float32 activations for AVX-512: the reference path. Weights are decoded a group
// at a time into memory, so that what depends on the format is compiled once per format, and what depends on the tokens once for all.
#include <utility>

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

// dst[k][row] = the values of a group's elements.
template <PackedKind kKind>
void decode_group(const std::byte* block, size_t group, float* dst) {
  constexpr GroupLayout kLayout = group_layout(kKind);
  __m512i quads[8];
  load_codes<kKind>(block + kLayout.codes_at(group), quads);
  Scales halves[2];
  load_float_scales<kKind>(load_unit_scales<kKind>(block + kLayout.unit_at(group)), block + kLayout.scales_at(group), halves);
  for (size_t k = 0; k < kPackGroup; ++k) {
    // A quad holds the codes of four successive k of each row in the bytes of a lane.
    const __m512i byte = _mm512_and_si512(_mm512_srli_epi32(quads[k / 4], static_cast<unsigned>(k % 4 * 8)), _mm512_set1_epi32(255));
    const __m512i code = _mm512_sub_epi32(byte, _mm512_set1_epi32(kLayout.zero_point));
    __m512 weights = _mm512_mul_ps(halves[k / 16].scale, _mm512_cvtepi32_ps(code));
    // Not fused: the bits are dequantize()'s
    if constexpr (kLayout.has_minimum()) weights = _mm512_add_ps(weights, halves[k / 16].minimum);
    _mm512_store_ps(dst + k * kPackRows, weights);
  }
}

using Decode = void (*)(const std::byte* block, size_t group, float* dst);

template <int kTokens>
void run_tile(const MatmulTile& tile, const MatmulArgs& args, Decode decode) {
  alignas(64) float weights[kPackGroup * kPackRows];
  __m512 sums[kTokens];
  OTR_UNROLLED(kTokens, t, { sums[t] = _mm512_setzero_ps(); });
  const float* src = tile.src;
  for (size_t g = 0; g < args.columns / kPackGroup; ++g, src += kPackGroup) {
    decode(tile.block, g, weights);
    for (size_t k = 0; k < kPackGroup; ++k) {
      const __m512 weight = _mm512_load_ps(weights + k * kPackRows);
      OTR_UNROLLED(kTokens, t, { sums[t] = _mm512_fmadd_ps(weight, _mm512_set1_ps(src[k + t * args.src_stride]), sums[t]); });
    }
  }
  store_sums<kTokens>(sums, tile, args.dst_stride, args.accumulate);
}

template <int... kCounts>
void run_tiles(const MatmulArgs& args, size_t block_begin, size_t block_end, Decode decode, std::integer_sequence<int, kCounts...>) {
  using Run = void (*)(const MatmulTile&, const MatmulArgs&, Decode);
  static constexpr Run kRuns[] = {run_tile<kCounts + 1>...};
  for_each_tile(args, block_begin, block_end, [&](const MatmulTile& tile, size_t tokens) { kRuns[tokens - 1](tile, args, decode); });
}

template <PackedKind... kKinds>
Decode decode_of(PackedKind kind) {
  Decode found = nullptr;
  ((kind == kKinds ? void(found = decode_group<kKinds>) : void()), ...);
  return found;
}

}  // namespace

void matmul_float_avx512(const MatmulArgs& args, size_t block_begin, size_t block_end) {
  using enum PackedKind;
  const Decode decode =
      decode_of<kQ8_0, kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ2_K, kQ3_K, kQ4_K, kQ5_K, kQ6_K, kIQ4_NL, kIQ4_XS, kMXFP4, kO2, kO3, kO4, kN2, kN3,
                kN4, kO2_128, kO3_128, kO4_128, kN2_128, kN3_128, kN4_128>(args.kind);
  run_tiles(args, block_begin, block_end, decode, std::make_integer_sequence<int, kTokenTile>());
}

}  // namespace outrigger
