// Our own formats: a float16 scale and minimum for 64 elements, then for each 32 of them a plane of the codes' low bits and one of the high bit.
#include "src/tensor/dequantize_blocks.h"
#include "src/tensor/own_planes.h"

namespace outrigger {
namespace {

template <int kLow, int kHigh>
void dequantize_planes(const uint8_t* block, float* dst) {
  const float scale = f16_at(block), minimum = f16_at(block + 2);
  const uint8_t* plane = block + 4;
  for (int group = 0; group < 2; ++group, plane += 4 * (kLow + kHigh), dst += 32) {
    for (int k = 0; k < 32; ++k) {
      const float product = scale * static_cast<float>(own_code<kLow, kHigh>(plane, k));
      dst[k] = product + minimum;
    }
  }
}

}  // namespace

void dequantize_o2(const uint8_t* block, float* dst) { dequantize_planes<2, 0>(block, dst); }
void dequantize_o3(const uint8_t* block, float* dst) { dequantize_planes<2, 1>(block, dst); }
void dequantize_o4(const uint8_t* block, float* dst) { dequantize_planes<4, 0>(block, dst); }

}  // namespace outrigger
