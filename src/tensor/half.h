// float16 and bfloat16 as bits, converted one at a time and exactly; kernels have their own vector forms.
#ifndef OUTRIGGER_SRC_TENSOR_HALF_H_
#define OUTRIGGER_SRC_TENSOR_HALF_H_

#include <bit>
#include <cstdint>

namespace outrigger {

inline float bf16_to_float(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

/// IEEE 754 binary16, subnormals and infinities included.
inline float f16_to_float(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
  const uint32_t exponent = (bits >> 10) & 31, mantissa = bits & 0x3ff;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | mantissa << 13);
  if (exponent != 0) return std::bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
  const float subnormal = static_cast<float>(mantissa) * 0x1p-24f;
  return sign ? -subnormal : subnormal;
}

/// 2^(exponent - 128): half of what the byte stands for in MXFP4, whose values are kept doubled. The two smallest are subnormal.
inline float half_power_of_two(uint8_t exponent) {
  return std::bit_cast<float>(exponent < 2 ? 0x00200000u << exponent : (exponent - 1u) << 23);
}

/// Rounds to nearest, ties to even; beyond the range to infinity.
inline uint16_t float_to_f16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint16_t sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
  const uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;           // NaN
  if (magnitude >= 0x477ff000) return sign | 0x7c00;          // 65520 and more round to infinity
  if (magnitude < 0x38800000) {                               // below 2^-14: a multiple of 2^-24; the addition rounds it
    const float rounded = std::bit_cast<float>(magnitude) + 0x1p-1f;
    return sign | static_cast<uint16_t>(std::bit_cast<uint32_t>(rounded) - std::bit_cast<uint32_t>(0x1p-1f));
  }
  const uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
  return sign | static_cast<uint16_t>((rounded - (112u << 23)) >> 13);
}

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_TENSOR_HALF_H_
