// IQ4_NL, IQ4_XS, MXFP4: a 4-bit code is an index into 16 values, closer together around zero.
#include "src/tensor/codebooks.h"
#include "src/tensor/dequantize_blocks.h"
#include "src/tensor/k_quant_scales.h"

namespace outrigger {
namespace {

// 16 bytes of codes: low nibbles are elements 0-15, high nibbles 16-31.
void look_up(const int8_t* values, float scale, const uint8_t* codes, float* dst) {
  for (int i = 0; i < 16; ++i) {
    dst[i] = scale * static_cast<float>(values[codes[i] & 15]);
    dst[i + 16] = scale * static_cast<float>(values[codes[i] >> 4]);
  }
}

}  // namespace

// f16 scale, 16 bytes of codes.
void dequantize_iq4_nl(const uint8_t* block, float* dst) { look_up(kNonLinearValues, f16_at(block), block + 2, dst); }

// f16 scale, eight 6-bit scales of 32 elements (6 bytes), 128 bytes of codes.
void dequantize_iq4_xs(const uint8_t* block, float* dst) {
  const float scale = f16_at(block);
  for (int group = 0; group < 8; ++group) {
    const float group_scale = scale * static_cast<float>(iq4_xs_scale(block + 2, group));
    look_up(kNonLinearValues, group_scale, block + 8 + group * 16, dst + group * 32);
  }
}

// One byte of exponent, 16 bytes of codes.
void dequantize_mxfp4(const uint8_t* block, float* dst) { look_up(kFloat4Doubled, half_power_of_two(block[0]), block + 1, dst); }

}  // namespace outrigger
