// Quantised weights in registers: a group's codes and scales, for files compiled with AVX-512 only.
#ifndef OUTRIGGER_SRC_KERNELS_MATMUL_WEIGHTS_AVX512_H_
#define OUTRIGGER_SRC_KERNELS_MATMUL_WEIGHTS_AVX512_H_

#include "src/kernels/avx512.h"
#include "src/kernels/unroll.h"
#include "src/tensor/packed_layout.h"

namespace outrigger {
namespace {

// Bits of a byte, moved from bit `from` to bit `to`; what comes over from the neighbouring byte is left for a mask to remove.
template <int kFrom, int kTo>
inline __m512i moved_bits(__m512i bytes) {
  if constexpr (kFrom > kTo) return _mm512_srli_epi16(bytes, kFrom - kTo);
  if constexpr (kFrom < kTo) return _mm512_slli_epi16(bytes, kTo - kFrom);
  return bytes;
}

// The 8 quads of a group's codes as unsigned bytes: byte row * 4 + k % 4.
template <PackedKind kKind>
inline __attribute__((always_inline)) void load_codes(const std::byte* codes, __m512i (&quads)[8]) {
  constexpr GroupLayout kLayout = group_layout(kKind);
  constexpr int kLow = kLayout.low_bits, kHigh = kLayout.high_bits;
  const auto line = [&](int index) __attribute__((always_inline)) { return _mm512_loadu_si512(codes + index * 64); };
  OTR_UNROLLED(8, q, {
    if constexpr (kLow == 8) {
      quads[q] = line(q);
    } else {
      quads[q] = _mm512_and_si512(moved_bits<q / kLow * kLow, 0>(line(q % kLow)), _mm512_set1_epi8((1 << kLow) - 1));
    }
    if constexpr (kHigh != 0) {
      const __m512i bits = moved_bits<q / kHigh * kHigh, kLow>(line(kLow + q % kHigh));
      constexpr int kOrAnd = 0xf8;  // the first, or the second and the third
      quads[q] = _mm512_ternarylogic_epi32(quads[q], bits, _mm512_set1_epi8(((1 << kHigh) - 1) << kLow), kOrAnd);
    }
  });
  if constexpr (kLayout.codebook != Codebook::kNone) {
    // The values in every 16 bytes, made unsigned by what the layout calls the zero point.
    const __m128i values = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codebook_values(kLayout.codebook)));
    const __m512i table = _mm512_broadcast_i32x4(_mm_add_epi8(values, _mm_set1_epi8(static_cast<char>(kLayout.zero_point))));
    OTR_UNROLLED(8, q, { quads[q] = _mm512_shuffle_epi8(table, quads[q]); });
  }
}

// What a unit's or a group's 16 rows are scaled by. Where the format takes the minimum off, it is negative, so that it can be added; except
// where halves have minima of their own, which meet the negative sums of activations.
struct Scales {
  __m512 scale, minimum;
};

template <PackedKind kKind>
inline Scales load_unit_scales(const std::byte* unit) {
  constexpr GroupLayout kLayout = group_layout(kKind);
  Scales scales = {_mm512_setzero_ps(), _mm512_setzero_ps()};
  if constexpr (kLayout.has_unit_scale()) scales.scale = load_halves(unit);
  if constexpr (kLayout.has_unit_scale() && kLayout.has_minimum()) {
    scales.minimum = load_halves(unit + kHalfRow);
    if constexpr (kLayout.takes_minimum_off() && !kLayout.has_halves())
      scales.minimum = _mm512_xor_ps(scales.minimum, _mm512_set1_ps(-0.0f));
  }
  return scales;
}

inline __m128i load_row_bytes(const std::byte* src) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(src)); }

// 2^(e - 128) for 16 bytes e; below 2 it is subnormal.
inline __m512 half_powers_of_two(__m128i exponents) {
  const __m512i e = _mm512_cvtepu8_epi32(exponents), one = _mm512_set1_epi32(1);
  const __m512i normal = _mm512_slli_epi32(_mm512_sub_epi32(e, one), 23);
  const __m512i subnormal = _mm512_sllv_epi32(_mm512_set1_epi32(0x00200000), e);
  return _mm512_castsi512_ps(_mm512_mask_mov_epi32(normal, _mm512_cmple_epu32_mask(e, one), subnormal));
}

// The scales of a group that has one for all its 32 elements; `unit` those of its unit.
template <PackedKind kKind>
inline Scales load_group_scales(const Scales& unit, const std::byte* src) {
  constexpr GroupLayout kLayout = group_layout(kKind);
  static_assert(!kLayout.has_halves());
  constexpr ScaleForm kForm = kLayout.scale_form;
  if constexpr (kForm == ScaleForm::kOfUnit) return unit;
  if constexpr (kForm == ScaleForm::kHalf) return {load_halves(src), unit.minimum};
  if constexpr (kForm == ScaleForm::kHalfAndMinimum) return {load_halves(src), load_halves(src + kHalfRow)};
  if constexpr (kForm == ScaleForm::kPowerOfTwo) return {half_powers_of_two(load_row_bytes(src)), unit.minimum};
  if constexpr (kForm == ScaleForm::kByte) {
    return {_mm512_mul_ps(unit.scale, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load_row_bytes(src)))), unit.minimum};
  }
  const __m512 scale = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(load_row_bytes(src)));
  const __m512 minimum = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(load_row_bytes(src + kPackRows)));
  return {_mm512_mul_ps(unit.scale, scale), _mm512_mul_ps(unit.minimum, minimum)};
}

// The whole-number scales of a group's halves: in each 32-bit lane a row's two, as int16. Minima only where the kind has them.
struct HalfScales {
  __m512i scales, minima;

  __m512i first() const { return _mm512_srai_epi32(_mm512_slli_epi32(scales, 16), 16); }
  __m512i second() const { return _mm512_srai_epi32(scales, 16); }
};

template <PackedKind kKind>
inline HalfScales load_half_scales(const std::byte* src) {
  const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(src));
  if constexpr (group_layout(kKind).scale_form == ScaleForm::kTwoBytes) return {_mm512_cvtepi8_epi16(bytes), _mm512_setzero_si512()};
  const __m512i both = _mm512_cvtepu8_epi16(bytes);
  return {_mm512_and_si512(both, _mm512_set1_epi16(15)), _mm512_srli_epi16(both, 4)};
}

}  // namespace
}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_MATMUL_WEIGHTS_AVX512_H_
