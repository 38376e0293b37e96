// Q4_0, Q4_1, Q5_0, Q5_1, Q8_0: blocks of 32. Element i < 16 has the low nibble of code byte i, element i + 16 its high nibble.
#include "src/tensor/dequantize_blocks.h"

namespace outrigger {
namespace {

// The fifth bits of a Q5 block: bit i belongs to element i; moved to bit 4.
int fifth_bit(const uint8_t* high_bits, int element) { return (high_bits[element / 8] >> element % 8 & 1) << 4; }

}  // namespace

// f16 scale, 16 bytes of codes; a code stands for code - 8.
void dequantize_q4_0(const uint8_t* block, float* dst) {
  const float scale = f16_at(block);
  const uint8_t* codes = block + 2;
  for (int i = 0; i < 16; ++i) {
    dst[i] = scale * static_cast<float>((codes[i] & 15) - 8);
    dst[i + 16] = scale * static_cast<float>((codes[i] >> 4) - 8);
  }
}

// f16 scale, f16 minimum, 16 bytes of codes.
void dequantize_q4_1(const uint8_t* block, float* dst) {
  const float scale = f16_at(block), minimum = f16_at(block + 2);
  const uint8_t* codes = block + 4;
  for (int i = 0; i < 16; ++i) {
    dst[i] = scale * static_cast<float>(codes[i] & 15) + minimum;
    dst[i + 16] = scale * static_cast<float>(codes[i] >> 4) + minimum;
  }
}

// f16 scale, 4 bytes of fifth bits, 16 bytes of codes; a code stands for code - 16.
void dequantize_q5_0(const uint8_t* block, float* dst) {
  const float scale = f16_at(block);
  const uint8_t *high_bits = block + 2, *codes = block + 6;
  for (int i = 0; i < 16; ++i) {
    dst[i] = scale * static_cast<float>(((codes[i] & 15) | fifth_bit(high_bits, i)) - 16);
    dst[i + 16] = scale * static_cast<float>(((codes[i] >> 4) | fifth_bit(high_bits, i + 16)) - 16);
  }
}

// f16 scale, f16 minimum, 4 bytes of fifth bits, 16 bytes of codes.
void dequantize_q5_1(const uint8_t* block, float* dst) {
  const float scale = f16_at(block), minimum = f16_at(block + 2);
  const uint8_t *high_bits = block + 4, *codes = block + 8;
  for (int i = 0; i < 16; ++i) {
    dst[i] = scale * static_cast<float>((codes[i] & 15) | fifth_bit(high_bits, i)) + minimum;
    dst[i + 16] = scale * static_cast<float>((codes[i] >> 4) | fifth_bit(high_bits, i + 16)) + minimum;
  }
}

// f16 scale, 32 signed codes.
void dequantize_q8_0(const uint8_t* block, float* dst) {
  const float scale = f16_at(block);
  for (int i = 0; i < 32; ++i) dst[i] = scale * static_cast<float>(static_cast<int8_t>(block[2 + i]));
}

}  // namespace outrigger
