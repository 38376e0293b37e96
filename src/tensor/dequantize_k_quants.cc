// Q2_K to Q6_K: blocks of 256 elements in groups of 16 or 32, whose scales (and minima) are small integers under one float16.
#include "src/tensor/dequantize_blocks.h"
#include "src/tensor/k_quant_scales.h"

namespace outrigger {
// 16 bytes scale | minimum << 4, 64 bytes of 2-bit codes, f16 scale, f16 minimum. Groups of 16. Each 32 bytes of codes hold 128
// elements: bits 0-1 of all bytes first, then bits 2-3, and so on.
void dequantize_q2_k(const uint8_t* block, float* dst) {
  const uint8_t *scales = block, *codes = block + 16;
  const float scale = f16_at(block + 80), minimum = f16_at(block + 82);
  for (int group = 0; group < 16; ++group) {
    const float group_step = scale * static_cast<float>(scales[group] & 15);
    const float group_minimum = minimum * static_cast<float>(scales[group] >> 4);
    const uint8_t* bytes = codes + group / 8 * 32 + group % 2 * 16;
    const int shift = group % 8 / 2 * 2;
    for (int i = 0; i < 16; ++i) dst[group * 16 + i] = group_step * static_cast<float>(bytes[i] >> shift & 3) - group_minimum;
  }
}

// 32 bytes of third bits, 64 bytes of 2-bit codes laid out as in Q2_K, 12 bytes of 6-bit scales, f16 scale. Groups of 16. Bit j of the
// third-bit byte i belongs to element 32 j + i; where it is clear, 4 is subtracted.
void dequantize_q3_k(const uint8_t* block, float* dst) {
  const uint8_t *third_bits = block, *codes = block + 32, *scales = block + 96;
  const float scale = f16_at(block + 108);
  for (int group = 0; group < 16; ++group) {
    const float group_step = scale * static_cast<float>(q3_k_scale(scales, group));
    const uint8_t* bytes = codes + group / 8 * 32 + group % 2 * 16;
    const uint8_t* bits = third_bits + group % 2 * 16;
    const int shift = group % 8 / 2 * 2;
    for (int i = 0; i < 16; ++i) {
      const int offset = bits[i] >> group / 2 & 1 ? 0 : 4;
      dst[group * 16 + i] = group_step * static_cast<float>((bytes[i] >> shift & 3) - offset);
    }
  }
}

// f16 scale, f16 minimum, 12 bytes of group scales, 128 bytes of codes. Groups of 32; each 32 bytes of codes hold two groups, the low
// nibbles first.
void dequantize_q4_k(const uint8_t* block, float* dst) {
  const float scale = f16_at(block), minimum = f16_at(block + 2);
  for (int group = 0; group < 8; ++group) {
    const KQuantScale packed = q4_k_scale(block + 4, group);
    const float group_step = scale * static_cast<float>(packed.scale), group_minimum = minimum * static_cast<float>(packed.minimum);
    const uint8_t* bytes = block + 16 + group / 2 * 32;
    const int shift = group % 2 * 4;
    for (int i = 0; i < 32; ++i) dst[group * 32 + i] = group_step * static_cast<float>(bytes[i] >> shift & 15) - group_minimum;
  }
}

// As Q4_K, with 32 bytes of fifth bits before the codes: bit j of byte i belongs to element 32 j + i.
void dequantize_q5_k(const uint8_t* block, float* dst) {
  const float scale = f16_at(block), minimum = f16_at(block + 2);
  const uint8_t* fifth_bits = block + 16;
  for (int group = 0; group < 8; ++group) {
    const KQuantScale packed = q4_k_scale(block + 4, group);
    const float group_step = scale * static_cast<float>(packed.scale), group_minimum = minimum * static_cast<float>(packed.minimum);
    const uint8_t* bytes = block + 48 + group / 2 * 32;
    const int shift = group % 2 * 4;
    for (int i = 0; i < 32; ++i) {
      const int code = (bytes[i] >> shift & 15) | (fifth_bits[i] >> group & 1) << 4;
      dst[group * 32 + i] = group_step * static_cast<float>(code) - group_minimum;
    }
  }
}

// 128 bytes of low nibbles, 64 bytes of upper two bits, 16 signed scales of 16 elements, f16 scale. A code stands for code - 32. Per
// half of 128 elements, in runs of 32: low nibbles of 64 bytes, then their high nibbles; the upper bits 0-1, 2-3, ... of 32 bytes.
void dequantize_q6_k(const uint8_t* block, float* dst) {
  const uint8_t *low = block, *high = block + 128, *scales = block + 192;
  const float scale = f16_at(block + 208);
  for (int run = 0; run < 8; ++run) {
    const int half = run / 4, part = run % 4;
    const uint8_t *low_bytes = low + half * 64 + part % 2 * 32, *high_bytes = high + half * 32;
    for (int i = 0; i < 32; ++i) {
      const int code = (low_bytes[i] >> part / 2 * 4 & 15) | (high_bytes[i] >> part * 2 & 3) << 4;
      const float group_step = scale * static_cast<float>(static_cast<int8_t>(scales[run * 2 + i / 16]));
      dst[run * 32 + i] = group_step * static_cast<float>(code - 32);
    }
  }
}

}  // namespace outrigger
