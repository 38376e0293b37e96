// Our own formats: a float16 scale and minimum for 64 elements, then for each 32 of them a plane of the codes' low bits and one of the high bit.
//
// A plane of b bits is b words of four bytes. Quad q = k / 4 of the 32 lies in word q % b, at bit q / b * b of byte k % 4: as in packed_layout.h,
// so that packing moves whole words.
#include "src/tensor/dequantize_blocks.h"

namespace outrigger {
namespace {

int part_of_code(const uint8_t* plane, int bits, int k) {
  const int quad = k / 4;
  return plane[quad % bits * 4 + k % 4] >> quad / bits * bits & ((1 << bits) - 1);
}

template <int kLow, int kHigh>
void dequantize_planes(const uint8_t* block, float* dst) {
  const float scale = f16_at(block), minimum = f16_at(block + 2);
  const uint8_t* plane = block + 4;
  for (int group = 0; group < 2; ++group, plane += 4 * (kLow + kHigh), dst += 32) {
    for (int k = 0; k < 32; ++k) {
      int code = part_of_code(plane, kLow, k);
      if constexpr (kHigh > 0) code |= part_of_code(plane + 4 * kLow, kHigh, k) << kLow;
      const float product = scale * static_cast<float>(code);
      dst[k] = product + minimum;
    }
  }
}

}  // namespace

void dequantize_o2(const uint8_t* block, float* dst) { dequantize_planes<2, 0>(block, dst); }
void dequantize_o3(const uint8_t* block, float* dst) { dequantize_planes<2, 1>(block, dst); }
void dequantize_o4(const uint8_t* block, float* dst) { dequantize_planes<4, 0>(block, dst); }

}  // namespace outrigger
