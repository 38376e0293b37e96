// Matrix product with int8 activations for AVX-512 VNNI.
#include <bit>

#include "src/kernels/matmul_avx512.h"
#include "src/kernels/matmul_store_avx512.h"
#include "src/kernels/matmul_weights_avx512.h"

namespace outrigger {
namespace {

// acc[lane] += sum of the products of the lane's four weights with four activations, the same ones for all lanes. As assembly because
// gcc 12 does not fold the broadcast into the instruction: it spends a quarter of its time on separate ones.
inline __m512i dot_quad(__m512i acc, __m512i weights, const std::byte* activations) {
  using Quad = const int32_t __attribute__((may_alias));
  asm("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(acc) : "v"(weights), "m"(*reinterpret_cast<Quad*>(activations)));
  return acc;
}

// acc[lane] += the lane's two int16 times two int16, the same ones for all lanes.
inline __m512i dot_pair(__m512i acc, __m512i factors, const std::byte* halves) {
  using Pair = const int32_t __attribute__((may_alias));
  asm("vpdpwssd %2%{1to16%}, %1, %0" : "+v"(acc) : "v"(factors), "m"(*reinterpret_cast<Pair*>(halves)));
  return acc;
}

inline __m512 broadcast_float(const std::byte* src) { return _mm512_set1_ps(load_float(src)); }

inline __m512i broadcast_int(const std::byte* src) {
  int32_t value;
  std::memcpy(&value, src, 4);
  return _mm512_set1_epi32(value);
}

// Where a group's activations lie for the tokens of a tile.
template <int kTokens>
struct Record {
  const std::byte* at;

  static constexpr size_t kBytes = kTokens * kTokenGroupBytes;
  const std::byte* quad(int t, int q) const { return at + t * kGroup + q * 4; }
  const std::byte* scale(int t) const { return at + kTokens * kGroup + t * 4; }
  const std::byte* scaled_sum(int t) const { return scale(kTokens + t); }
  const std::byte* negative_sum(int t) const { return scale(2 * kTokens + t); }
  const std::byte* negative_halves(int t) const { return scale(3 * kTokens + t); }
};

// One group of k, 16 rows by kTokens tokens, of a kind with one scale for 32 elements.
template <PackedKind kKind, int kTokens>
inline __attribute__((always_inline)) void add_group(const Scales& unit, const std::byte* scales, const std::byte* codes,
                                                     Record<kTokens> record, __m512 (&sums)[kTokens]) {
  constexpr GroupLayout kLayout = group_layout(kKind);
  __m512i quads[8], dots[kTokens];
  load_codes<kKind>(codes, quads);
  const Scales group = load_group_scales<kKind>(unit, scales);
  OTR_UNROLLED(kTokens, t, {
    dots[t] = _mm512_setzero_si512();
    if constexpr (kLayout.zero_point != 0) {
      // Codes have the zero point added: the sum starts below zero by that times the sum of the activations.
      static_assert(std::has_single_bit(kLayout.zero_point));
      dots[t] = _mm512_slli_epi32(broadcast_int(record.negative_sum(t)), std::countr_zero(kLayout.zero_point));
    }
  });
  OTR_UNROLLED(8, q, { OTR_UNROLLED(kTokens, t, { dots[t] = dot_quad(dots[t], quads[q], record.quad(t, q)); }); });
  OTR_UNROLLED(kTokens, t, {
    const __m512 both_scales = _mm512_mul_ps(group.scale, broadcast_float(record.scale(t)));
    sums[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[t]), both_scales, sums[t]);
    if constexpr (kLayout.has_minimum()) sums[t] = _mm512_fmadd_ps(group.minimum, broadcast_float(record.scaled_sum(t)), sums[t]);
  });
}

// Adds a group whose halves have scales of their own, given the sum over the halves of sub_scale * dot.
template <PackedKind kKind, int kTokens>
inline __attribute__((always_inline)) void add_scaled(const Scales& unit, const HalfScales& halves, __m512i dot, Record<kTokens> record,
                                                      int t, __m512& sum) {
  const __m512 token_scale = broadcast_float(record.scale(t));
  if constexpr (group_layout(kKind).has_minimum()) {
    const __m512i minima = dot_pair(_mm512_setzero_si512(), halves.minima, record.negative_halves(t));
    const __m512 lower = _mm512_mul_ps(unit.minimum, _mm512_cvtepi32_ps(minima));
    sum = _mm512_fmadd_ps(_mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), unit.scale, lower), token_scale, sum);
  } else {
    sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), _mm512_mul_ps(unit.scale, token_scale), sum);
  }
}

// One group of such a kind: each half's dot is multiplied with its scale. Four tokens at once, since each takes two sums.
template <PackedKind kKind, int kTokens>
inline __attribute__((always_inline)) void add_halves(const Scales& unit, const std::byte* scales, const std::byte* codes,
                                                      Record<kTokens> record, __m512 (&sums)[kTokens]) {
  constexpr int kZeroPoint = group_layout(kKind).zero_point, kAtOnce = kTokens < 4 ? kTokens : 4;
  __m512i quads[8];
  load_codes<kKind>(codes, quads);
  const HalfScales halves = load_half_scales<kKind>(scales);
  const __m512i factors[2] = {halves.first(), halves.second()};
  const __m512i zero_points = _mm512_slli_epi16(halves.scales, kZeroPoint == 0 ? 0 : std::countr_zero(unsigned{kZeroPoint}));
  OTR_UNROLLED((kTokens + kAtOnce - 1) / kAtOnce, part, {
    constexpr int kFirst = part * kAtOnce, kSome = kTokens - kFirst < kAtOnce ? kTokens - kFirst : kAtOnce;
    __m512i dots[2][kSome];
    OTR_UNROLLED(kSome, t, { dots[0][t] = dots[1][t] = _mm512_setzero_si512(); });
    OTR_UNROLLED(4, q, {
      OTR_UNROLLED(kSome, t, { dots[0][t] = dot_quad(dots[0][t], quads[q], record.quad(kFirst + t, q)); });
      OTR_UNROLLED(kSome, t, { dots[1][t] = dot_quad(dots[1][t], quads[q + 4], record.quad(kFirst + t, q + 4)); });
    });
    OTR_UNROLLED(kSome, t, {
      __m512i dot = _mm512_add_epi32(_mm512_mullo_epi32(dots[0][t], factors[0]), _mm512_mullo_epi32(dots[1][t], factors[1]));
      if constexpr (kZeroPoint != 0) dot = dot_pair(dot, zero_points, record.negative_halves(kFirst + t));
      add_scaled<kKind, kTokens>(unit, halves, dot, record, kFirst + t, sums[kFirst + t]);
    });
  });
}

template <PackedKind kKind, int kTokens>
inline __attribute__((always_inline)) void add_any_group(const Scales& unit, const std::byte* scales, const std::byte* codes,
                                                         Record<kTokens> record, __m512 (&sums)[kTokens]) {
  if constexpr (!group_layout(kKind).has_halves()) {
    add_group<kKind, kTokens>(unit, scales, codes, record, sums);
  } else {
    add_halves<kKind, kTokens>(unit, scales, codes, record, sums);
  }
}

template <PackedKind kKind, int kTokens>
struct Int8Tile {
  static void run(const MatmulTile& tile, const MatmulArgs& args, size_t, size_t) {
    constexpr GroupLayout kLayout = group_layout(kKind);
    __m512 sums[kTokens];
    OTR_UNROLLED(kTokens, t, { sums[t] = _mm512_setzero_ps(); });
    // Where sums will go. The rows of 128 tokens are more streams than the processor follows by itself: waiting for each line of them took
    // 5 % of a prompt where they are 8192 floats long, and 15 % at 24576.
    if constexpr (kTokens == kTokenTile) OTR_UNROLLED(kTokens, t, { __builtin_prefetch(tile.dst + t * args.dst_stride, 1); });
    const std::byte* unit = tile.block;
    Record<kTokens> record = {tile.panel};
    const bool prefetch = prefetch_bytes(kKind, kTokens) != 0 && tile.is_first;
    for (size_t left = args.columns / kGroup; left != 0;) {
      const Scales unit_scales = load_unit_scales<kKind>(unit);
      const size_t groups = left < kLayout.unit_groups ? left : kLayout.unit_groups;
      const std::byte *scales = unit + kLayout.unit_scale_bytes(), *codes = unit + kLayout.header_bytes();
      for (size_t g = 0; g < groups;
           ++g, scales += kLayout.group_scale_bytes(), codes += kLayout.code_bytes(), record.at += record.kBytes) {
        if (prefetch) prefetch_group<kKind, kTokens>(unit, g);
        add_any_group<kKind, kTokens>(unit_scales, scales, codes, record, sums);
      }
      left -= groups;
      unit += kLayout.unit_bytes();
    }
    store_sums<kTokens>(sums, tile, args.dst_stride, args.accumulate);
  }
};

}  // namespace

void matmul_int8_avx512(const MatmulArgs& args, size_t block_begin, size_t block_end) {
  using enum PackedKind;
  run_kinds<Int8Tile, kTokenTile, kQ8_0, kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ2_K, kQ3_K, kQ4_K, kQ5_K, kQ6_K, kIQ4_NL, kIQ4_XS, kMXFP4,
            kO2, kO3, kO4, kN2, kN3, kN4, kO2_128, kO3_128, kO4_128, kN2_128, kN3_128, kN4_128>(
      args, block_begin, block_end);
}

}  // namespace outrigger
