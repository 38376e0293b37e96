// Quantised weights in registers: a group's codes and scales for 8 of the 16 rows, for files compiled with AVX2 only.
#ifndef OUTRIGGER_SRC_KERNELS_MATMUL_WEIGHTS_AVX2_H_
#define OUTRIGGER_SRC_KERNELS_MATMUL_WEIGHTS_AVX2_H_

#include "src/kernels/avx2.h"
#include "src/tensor/packed_layout.h"

// `rows` is 0 for the first 8 rows and 1 for the others, everywhere.
namespace outrigger {
namespace {

inline __m128i load_16_bytes(const std::byte* src) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(src)); }
inline __m128i load_8_bytes(const std::byte* src) { return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(src)); }

// Bits of a byte, moved from bit `from` to bit `to`; what comes over from the neighbouring byte is left for a mask to remove.
template <int kFrom, int kTo>
inline __m256i moved_bits(__m256i bytes) {
  if constexpr (kFrom > kTo) return _mm256_srli_epi16(bytes, kFrom - kTo);
  if constexpr (kFrom < kTo) return _mm256_slli_epi16(bytes, kTo - kFrom);
  return bytes;
}

// Quad q of a group's codes as unsigned bytes: byte row * 4 + k % 4.
template <PackedKind kKind, int q>
inline __m256i load_quad(const std::byte* codes, int rows) {
  constexpr GroupLayout kLayout = group_layout(kKind);
  constexpr int kLow = kLayout.low_bits, kHigh = kLayout.high_bits;
  __m256i quad = load_bytes(codes + q % kLow * 64 + rows * 32);
  if constexpr (kLow != 8) quad = _mm256_and_si256(moved_bits<q / kLow * kLow, 0>(quad), _mm256_set1_epi8((1 << kLow) - 1));
  if constexpr (kHigh != 0) {
    const __m256i bits = moved_bits<q / kHigh * kHigh, kLow>(load_bytes(codes + (kLow + q % kHigh) * 64 + rows * 32));
    quad = _mm256_or_si256(quad, _mm256_and_si256(bits, _mm256_set1_epi8(((1 << kHigh) - 1) << kLow)));
  }
  if constexpr (kLayout.codebook != Codebook::kNone) {
    const __m128i values = load_16_bytes(reinterpret_cast<const std::byte*>(codebook_values(kLayout.codebook)));
    const __m128i table = _mm_add_epi8(values, _mm_set1_epi8(static_cast<char>(kLayout.zero_point)));
    quad = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), quad);
  }
  return quad;
}

// What a unit's or a group's rows are scaled by. Where the format takes the minimum off, it is negative, so that it can be added; except
// where halves have minima of their own, which meet the negative sums of activations.
struct Scales {
  __m256 scale, minimum;
};

template <PackedKind kKind>
inline Scales load_unit_scales(const std::byte* unit, int rows) {
  constexpr GroupLayout kLayout = group_layout(kKind);
  Scales scales = {_mm256_setzero_ps(), _mm256_setzero_ps()};
  if constexpr (kLayout.has_unit_scale()) scales.scale = load_halves(unit + rows * 16);
  if constexpr (kLayout.has_unit_scale() && kLayout.has_minimum()) {
    scales.minimum = load_halves(unit + kHalfRow + rows * 16);
    if constexpr (kLayout.takes_minimum_off() && !kLayout.has_halves())
      scales.minimum = _mm256_xor_ps(scales.minimum, _mm256_set1_ps(-0.0f));
  }
  return scales;
}

// 2^(e - 128) for 8 bytes e; below 2 it is subnormal.
inline __m256 half_powers_of_two(__m128i exponents) {
  const __m256i e = _mm256_cvtepu8_epi32(exponents);
  const __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
  const __m256i subnormal = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), e);
  return _mm256_castsi256_ps(_mm256_blendv_epi8(normal, subnormal, _mm256_cmpgt_epi32(_mm256_set1_epi32(2), e)));
}

// The scales of a group that has one for all its 32 elements; `unit` those of its unit.
template <PackedKind kKind>
inline Scales load_group_scales(const Scales& unit, const std::byte* src, int rows) {
  constexpr GroupLayout kLayout = group_layout(kKind);
  static_assert(!kLayout.has_halves());
  constexpr ScaleForm kForm = kLayout.scale_form;
  if constexpr (kForm == ScaleForm::kOfUnit) return unit;
  if constexpr (kForm == ScaleForm::kHalf) return {load_halves(src + rows * 16), unit.minimum};
  if constexpr (kForm == ScaleForm::kHalfAndMinimum) return {load_halves(src + rows * 16), load_halves(src + kHalfRow + rows * 16)};
  if constexpr (kForm == ScaleForm::kPowerOfTwo) return {half_powers_of_two(load_8_bytes(src + rows * 8)), unit.minimum};
  const __m128i bytes = load_8_bytes(src + rows * 8);
  if constexpr (kForm == ScaleForm::kByte) {
    return {_mm256_mul_ps(unit.scale, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes))), unit.minimum};
  }
  const __m256 minimum = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(load_8_bytes(src + kPackRows + rows * 8)));
  return {_mm256_mul_ps(unit.scale, _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes))), _mm256_mul_ps(unit.minimum, minimum)};
}

// The whole-number scales of a group's halves: in each 32-bit lane a row's two, as int16. Minima only where the kind has them.
struct HalfScales {
  __m256i scales, minima;
};

template <PackedKind kKind>
inline HalfScales load_half_scales(const std::byte* src, int rows) {
  const __m128i bytes = load_16_bytes(src + rows * 16);
  if constexpr (group_layout(kKind).scale_form == ScaleForm::kTwoBytes) return {_mm256_cvtepi8_epi16(bytes), _mm256_setzero_si256()};
  const __m256i both = _mm256_cvtepu8_epi16(bytes);
  return {_mm256_and_si256(both, _mm256_set1_epi16(15)), _mm256_srli_epi16(both, 4)};
}

}  // namespace
}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_MATMUL_WEIGHTS_AVX2_H_
