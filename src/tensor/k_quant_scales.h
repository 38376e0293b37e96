// The scales inside blocks of 256: 6-bit integers, packed.
#ifndef OUTRIGGER_SRC_TENSOR_K_QUANT_SCALES_H_
#define OUTRIGGER_SRC_TENSOR_K_QUANT_SCALES_H_

#include <cstdint>

namespace outrigger {

struct KQuantScale {
  int scale, minimum;
};

/// Q4_K and Q5_K: eight 6-bit scales and eight 6-bit minima in 12 bytes. Those of groups 0-3 are the low six bits of bytes 0-3 and 4-7;
/// those of groups 4-7 have their low nibbles in bytes 8-11 and their upper two bits on top of the bytes before.
inline KQuantScale q4_k_scale(const uint8_t* packed, int group) {
  if (group < 4) return {packed[group] & 63, packed[group + 4] & 63};
  const int low = packed[group + 4];
  return {(low & 15) | (packed[group - 4] >> 6) << 4, (low >> 4) | (packed[group] >> 6) << 4};
}

/// Q3_K: sixteen 6-bit scales in 12 bytes, each standing for itself - 32: low nibbles in bytes 0-7 (low halves are groups 0-7, high halves
/// 8-15), upper two bits in bytes 8-11, four groups apart.
inline int q3_k_scale(const uint8_t* packed, int group) {
  const int low = packed[group % 8] >> group / 8 * 4 & 15, high = packed[8 + group % 4] >> group / 4 * 2 & 3;
  return (low | high << 4) - 32;
}

/// IQ4_XS: eight 6-bit scales in 6 bytes, each standing for itself - 32: upper two bits in bytes 0-1, low nibbles in bytes 2-5.
inline int iq4_xs_scale(const uint8_t* packed, int group) {
  const int high = packed[group / 4] >> group % 4 * 2 & 3, low = packed[2 + group / 2] >> group % 2 * 4 & 15;
  return (low | high << 4) - 32;
}

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_TENSOR_K_QUANT_SCALES_H_
