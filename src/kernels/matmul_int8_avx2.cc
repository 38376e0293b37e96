// Matrix product with int8 activations for AVX2, which multiplies unsigned with signed bytes into saturating sums of two.
#include <bit>

#include "src/kernels/matmul_avx2.h"
#include "src/kernels/matmul_weights_avx2.h"

namespace outrigger {
namespace {

// Where a group's activations lie for the tokens from some one of a tile on.
struct Record {
  const std::byte* quads;
  const std::byte* words;
  size_t word_stride;

  __m256i quad(int t, int q) const { return _mm256_set1_epi32(load_int(quads + t * kGroup + q * 4)); }
  __m256 scale(int t) const { return _mm256_set1_ps(load_float(words + t * 4)); }
  __m256 scaled_sum(int t) const { return _mm256_set1_ps(load_float(words + word_stride + t * 4)); }
  __m256i negative_sum(int t) const { return _mm256_set1_epi32(load_int(words + 2 * word_stride + t * 4)); }
  __m256i negative_halves(int t) const { return _mm256_set1_epi32(load_int(words + 3 * word_stride + t * 4)); }
};

// The largest unsigned code.
consteval int largest_code(const GroupLayout& layout) {
  if (layout.codebook == Codebook::kNone) return (1 << (layout.low_bits + layout.high_bits)) - 1;
  int largest = 0;
  for (int i = 0; i < 16; ++i) largest = largest < codebook_values(layout.codebook)[i] ? codebook_values(layout.codebook)[i] : largest;
  return largest + layout.zero_point;
}

// Quads whose products, two at a time 127 * (code + code), still add up in 16 bits; within a half where halves have scales of their own.
// 0 if not even one's do.
consteval int quads_per_sum(const GroupLayout& layout) {
  for (int quads = layout.has_halves() ? 4 : 8; quads != 0; quads /= 2) {
    if (quads * 2 * 127 * largest_code(layout) <= INT16_MAX) return quads;
  }
  return 0;
}

// Both int16 of each 32-bit lane become the one of half `half`.
template <int half>
inline __m256i both_of(__m256i pairs) {
  if constexpr (half == 0) return _mm256_blend_epi16(pairs, _mm256_slli_epi32(pairs, 16), 0xaa);
  return _mm256_blend_epi16(pairs, _mm256_srli_epi32(pairs, 16), 0x55);
}

// Keeps a sum in a register: gcc 12 turns a chain of additions into a tree, and puts all of a group's 64 products into memory for it.
inline void keep(__m256i& x) { asm("" : "+x"(x)); }

// The exact dot products of a group's codes with each token's, zero points taken off, and times the halves' scales where there are some.
template <PackedKind kKind, int kTokens>
inline __attribute__((always_inline)) void dot_codes(const HalfScales (&halves)[kHalves], const std::byte* codes, const Record& record,
                                                     __m256i (&dots)[kHalves][kTokens]) {
  constexpr GroupLayout kLayout = group_layout(kKind);
  constexpr int kQuads = quads_per_sum(kLayout);
  OTR_UNROLLED(8 / kQuads, part, {
    __m256i sums[kHalves][kTokens];
    OTR_UNROLLED(kQuads, i, {
      constexpr int q = part * kQuads + i;
      const __m256i quads[kHalves] = {load_quad<kKind, q>(codes, 0), load_quad<kKind, q>(codes, 1)};
      OTR_UNROLLED(kTokens, t, {
        const __m256i token = record.quad(t, q);
        OTR_UNROLLED(kHalves, h, {
          const __m256i products = _mm256_maddubs_epi16(quads[h], token);
          sums[h][t] = i == 0 ? products : _mm256_add_epi16(sums[h][t], products);
          keep(sums[h][t]);
        });
      });
    });
    OTR_UNROLLED(kHalves, h, {
      const __m256i factor = kLayout.has_halves() ? both_of<part * kQuads / 4>(halves[h].scales) : _mm256_set1_epi16(1);
      OTR_UNROLLED(kTokens, t, {
        const __m256i sum = _mm256_madd_epi16(sums[h][t], factor);
        dots[h][t] = part == 0 ? sum : _mm256_add_epi32(dots[h][t], sum);
        keep(dots[h][t]);
      });
    });
  });
  OTR_UNROLLED(kHalves, h, {
    OTR_UNROLLED(kTokens, t, {
      if constexpr (kLayout.zero_point != 0 && !kLayout.has_halves()) {
        dots[h][t] = _mm256_add_epi32(dots[h][t], _mm256_slli_epi32(record.negative_sum(t), std::countr_zero(kLayout.zero_point)));
      } else if constexpr (kLayout.zero_point != 0) {
        const __m256i zero_points = _mm256_slli_epi16(halves[h].scales, std::countr_zero(kLayout.zero_point));
        dots[h][t] = _mm256_add_epi32(dots[h][t], _mm256_madd_epi16(zero_points, record.negative_halves(t)));
      }
    });
  });
}

// The same for 8-bit codes, of which a pair of unsigned ones would be up to 2 * 255 * 127 and saturate. So the weight's sign moves to the
// activation: |code| <= 128, and a pair is at most 2 * 128 * 127 = 32512, just below the limit; the next addition has to be in 32 bits.
template <PackedKind kKind, int kTokens>
inline __attribute__((always_inline)) void dot_bytes(const std::byte* codes, const Record& record, __m256i (&dots)[kHalves][kTokens]) {
  OTR_UNROLLED(8, q, {
    const __m256i flip = _mm256_set1_epi8(-128);
    const __m256i quads[kHalves] = {_mm256_xor_si256(load_quad<kKind, q>(codes, 0), flip),
                                    _mm256_xor_si256(load_quad<kKind, q>(codes, 1), flip)};
    const __m256i magnitudes[kHalves] = {_mm256_abs_epi8(quads[0]), _mm256_abs_epi8(quads[1])};
    OTR_UNROLLED(kTokens, t, {
      const __m256i token = record.quad(t, q);
      OTR_UNROLLED(kHalves, h, {
        const __m256i products = _mm256_maddubs_epi16(magnitudes[h], _mm256_sign_epi8(token, quads[h]));
        const __m256i sum = _mm256_madd_epi16(products, _mm256_set1_epi16(1));
        dots[h][t] = q == 0 ? sum : _mm256_add_epi32(dots[h][t], sum);
        keep(dots[h][t]);
      });
    });
  });
}

// One group of k: 16 rows by kTokens tokens.
template <PackedKind kKind, int kTokens>
inline __attribute__((always_inline)) void add_group(const std::byte* unit, const std::byte* scales, const std::byte* codes,
                                                     const Record& record, __m256 (&sums)[kHalves][kTokens]) {
  constexpr GroupLayout kLayout = group_layout(kKind);
  __m256i dots[kHalves][kTokens];
  HalfScales halves[kHalves] = {};
  if constexpr (kLayout.has_halves()) OTR_UNROLLED(kHalves, h, { halves[h] = load_half_scales<kKind>(scales, h); });
  if constexpr (quads_per_sum(kLayout) != 0) {
    dot_codes<kKind, kTokens>(halves, codes, record, dots);
  } else {
    dot_bytes<kKind, kTokens>(codes, record, dots);
  }
  OTR_UNROLLED(kHalves, h, {
    Scales group = load_unit_scales<kKind>(unit, h);
    if constexpr (!kLayout.has_halves()) group = load_group_scales<kKind>(group, scales, h);
    OTR_UNROLLED(kTokens, t, {
      const __m256 dot = _mm256_cvtepi32_ps(dots[h][t]);
      if constexpr (kLayout.has_halves() && kLayout.has_minimum()) {
        const __m256i minima = _mm256_madd_epi16(halves[h].minima, record.negative_halves(t));
        const __m256 lower = _mm256_mul_ps(group.minimum, _mm256_cvtepi32_ps(minima));
        sums[h][t] = _mm256_fmadd_ps(_mm256_fmadd_ps(dot, group.scale, lower), record.scale(t), sums[h][t]);
      } else {
        sums[h][t] = _mm256_fmadd_ps(dot, _mm256_mul_ps(group.scale, record.scale(t)), sums[h][t]);
        if constexpr (kLayout.has_minimum()) sums[h][t] = _mm256_fmadd_ps(group.minimum, record.scaled_sum(t), sums[h][t]);
      }
    });
  });
}

template <PackedKind kKind, int kTokens>
struct Int8Tile {
  static void run(const MatmulTile& tile, const MatmulArgs& args, size_t first, size_t tile_tokens) {
    constexpr GroupLayout kLayout = group_layout(kKind);
    __m256 sums[kHalves][kTokens];
    OTR_UNROLLED(kHalves, h, { OTR_UNROLLED(kTokens, t, { sums[h][t] = _mm256_setzero_ps(); }); });
    const std::byte *unit = tile.block, *panel = tile.panel;
    const bool prefetch = prefetch_bytes(kKind, kTokens) != 0 && tile.is_first && first == 0;
    for (size_t left = args.columns / kGroup; left != 0;) {
      const size_t groups = left < kLayout.unit_groups ? left : kLayout.unit_groups;
      const std::byte *scales = unit + kLayout.unit_scale_bytes(), *codes = unit + kLayout.header_bytes();
      for (size_t g = 0; g < groups; ++g, scales += kLayout.group_scale_bytes(), codes += kLayout.code_bytes()) {
        const Record record = {panel + first * kGroup, panel + tile_tokens * kGroup + first * 4, tile_tokens * 4};
        if (prefetch) prefetch_group<kKind, kTokens>(unit, g);
        add_group<kKind, kTokens>(unit, scales, codes, record, sums);
        panel += tile_tokens * kTokenGroupBytes;
      }
      left -= groups;
      unit += kLayout.unit_bytes();
    }
    store_sums<kTokens>(sums, tile, first, args.dst_stride, args.accumulate);
  }
};

// Tokens a loop takes at once. More share each decoding of the weights and each of both halves' loads among themselves, but 16 registers
// do not hold their sums as well.
constexpr int kLoopTokens = 4;

}  // namespace

void matmul_int8_avx2(const MatmulArgs& args, size_t block_begin, size_t block_end) {
  using enum PackedKind;
  run_kinds<Int8Tile, kLoopTokens, kQ8_0, kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ2_K, kQ3_K, kQ4_K, kQ5_K, kQ6_K, kIQ4_NL, kIQ4_XS, kMXFP4,
            kO2, kO3, kO4, kN2, kN3, kN4, kO2_128, kO3_128, kO4_128, kN2_128, kN3_128, kN4_128>(
      args, block_begin, block_end);
}

}  // namespace outrigger
