// IQ4_NL, IQ4_XS, MXFP4: a 4-bit code is an index into 16 values, closer together around zero.
#include <bit>

#include "src/tensor/dequantize_blocks.h"

namespace outrigger {
namespace {

constexpr float kNonLinear[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

// The sixteen 4-bit floats (sign, 2 bits of exponent, 1 of mantissa), doubled so that they are integers. The reference keeps them as
// integers, which have no negative zero; nor does code 8 here.
constexpr float kFloat4Doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

// 16 bytes of codes: low nibbles are elements 0-15, high nibbles 16-31.
void look_up(const float* values, float scale, const uint8_t* codes, float* dst) {
  for (int i = 0; i < 16; ++i) {
    dst[i] = scale * values[codes[i] & 15];
    dst[i + 16] = scale * values[codes[i] >> 4];
  }
}

// 2^(exponent - 128), the half making up for the doubled values; the two smallest are subnormal.
float half_power_of_two(uint8_t exponent) { return std::bit_cast<float>(exponent < 2 ? 0x00200000u << exponent : (exponent - 1u) << 23); }

}  // namespace

// f16 scale, 16 bytes of codes.
void dequantize_iq4_nl(const uint8_t* block, float* dst) { look_up(kNonLinear, f16_at(block), block + 2, dst); }

// f16 scale, upper two bits of eight 6-bit scales (2 bytes), their low nibbles (4 bytes), 128 bytes of codes. A scale stands for
// itself - 32 and covers 32 elements.
void dequantize_iq4_xs(const uint8_t* block, float* dst) {
  const float scale = f16_at(block);
  for (int group = 0; group < 8; ++group) {
    const int high = block[2 + group / 4] >> group % 4 * 2 & 3, low = block[4 + group / 2] >> group % 2 * 4 & 15;
    const float group_scale = scale * static_cast<float>((low | high << 4) - 32);
    look_up(kNonLinear, group_scale, block + 8 + group * 16, dst + group * 32);
  }
}

// One byte of exponent, 16 bytes of codes.
void dequantize_mxfp4(const uint8_t* block, float* dst) { look_up(kFloat4Doubled, half_power_of_two(block[0]), block + 1, dst); }

}  // namespace outrigger
