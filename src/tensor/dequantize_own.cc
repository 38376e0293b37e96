// Our own formats: a float16 scale and minimum for a block, then for each 32 elements a plane of the codes' low bits and one of the high
// bit.
#include "src/tensor/codebooks.h"
#include "src/tensor/dequantize_blocks.h"
#include "src/tensor/own_planes.h"

namespace outrigger {
namespace {

template <int kLow, int kHigh, Codebook kCodebook = Codebook::kNone, int kBlock = 64>
void dequantize_planes(const uint8_t* block, float* dst) {
  const float scale = f16_at(block), minimum = f16_at(block + 2);
  const uint8_t* plane = block + 4;
  for (int group = 0; group < kBlock / 32; ++group, plane += 4 * (kLow + kHigh), dst += 32) {
    for (int k = 0; k < 32; ++k) {
      int level = own_code<kLow, kHigh>(plane, k);
      if constexpr (kCodebook != Codebook::kNone) level = codebook_values(kCodebook)[level];
      const float product = scale * static_cast<float>(level);
      dst[k] = product + minimum;
    }
  }
}

}  // namespace

void dequantize_o2(const uint8_t* block, float* dst) { dequantize_planes<2, 0>(block, dst); }
void dequantize_o3(const uint8_t* block, float* dst) { dequantize_planes<2, 1>(block, dst); }
void dequantize_o4(const uint8_t* block, float* dst) { dequantize_planes<4, 0>(block, dst); }
void dequantize_n2(const uint8_t* block, float* dst) { dequantize_planes<2, 0, Codebook::kOwn2>(block, dst); }
void dequantize_n3(const uint8_t* block, float* dst) { dequantize_planes<2, 1, Codebook::kOwn3>(block, dst); }
void dequantize_n4(const uint8_t* block, float* dst) { dequantize_planes<4, 0, Codebook::kOwn4>(block, dst); }

void dequantize_o2_128(const uint8_t* block, float* dst) { dequantize_planes<2, 0, Codebook::kNone, 128>(block, dst); }
void dequantize_o3_128(const uint8_t* block, float* dst) { dequantize_planes<2, 1, Codebook::kNone, 128>(block, dst); }
void dequantize_o4_128(const uint8_t* block, float* dst) { dequantize_planes<4, 0, Codebook::kNone, 128>(block, dst); }
void dequantize_n2_128(const uint8_t* block, float* dst) { dequantize_planes<2, 0, Codebook::kOwn2, 128>(block, dst); }
void dequantize_n3_128(const uint8_t* block, float* dst) { dequantize_planes<2, 1, Codebook::kOwn3, 128>(block, dst); }
void dequantize_n4_128(const uint8_t* block, float* dst) { dequantize_planes<4, 0, Codebook::kOwn4, 128>(block, dst); }

}  // namespace outrigger
