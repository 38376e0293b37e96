// One block of each quantised format as float32: what dequantize() repeats along a row. Internal to this room.
//
// Every product and sum below is one float32 operation in the order written, as in the reference, so that the bits agree.
#ifndef OUTRIGGER_SRC_TENSOR_DEQUANTIZE_BLOCKS_H_
#define OUTRIGGER_SRC_TENSOR_DEQUANTIZE_BLOCKS_H_

#include <cstdint>
#include <cstring>

#include "src/tensor/half.h"

namespace outrigger {

/// The float16 at `bytes`, which needs no alignment; files are little-endian, and so is every machine this is built for.
inline float f16_at(const uint8_t* bytes) {
  uint16_t bits;
  std::memcpy(&bits, bytes, sizeof bits);
  return f16_to_float(bits);
}

// 32 elements a block: a scale, perhaps a minimum, and the codes. dequantize_legacy.cc
void dequantize_q4_0(const uint8_t* block, float* dst);
void dequantize_q4_1(const uint8_t* block, float* dst);
void dequantize_q5_0(const uint8_t* block, float* dst);
void dequantize_q5_1(const uint8_t* block, float* dst);
void dequantize_q8_0(const uint8_t* block, float* dst);

// 256 elements a block: scales of 16 or 32 elements are themselves integers under one float16. dequantize_k_quants.cc
void dequantize_q2_k(const uint8_t* block, float* dst);
void dequantize_q3_k(const uint8_t* block, float* dst);
void dequantize_q4_k(const uint8_t* block, float* dst);
void dequantize_q5_k(const uint8_t* block, float* dst);
void dequantize_q6_k(const uint8_t* block, float* dst);

// A code is an index into 16 values: 32, 256 and 32 elements a block. dequantize_codebook.cc
void dequantize_iq4_nl(const uint8_t* block, float* dst);
void dequantize_iq4_xs(const uint8_t* block, float* dst);
void dequantize_mxfp4(const uint8_t* block, float* dst);

// Ours: 64 or 128 elements a block, codes in planes as they are packed. dequantize_own.cc
void dequantize_o2(const uint8_t* block, float* dst);
void dequantize_o3(const uint8_t* block, float* dst);
void dequantize_o4(const uint8_t* block, float* dst);
void dequantize_n2(const uint8_t* block, float* dst);
void dequantize_n3(const uint8_t* block, float* dst);
void dequantize_n4(const uint8_t* block, float* dst);
void dequantize_o2_128(const uint8_t* block, float* dst);
void dequantize_o3_128(const uint8_t* block, float* dst);
void dequantize_o4_128(const uint8_t* block, float* dst);
void dequantize_n2_128(const uint8_t* block, float* dst);
void dequantize_n3_128(const uint8_t* block, float* dst);
void dequantize_n4_128(const uint8_t* block, float* dst);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_TENSOR_DEQUANTIZE_BLOCKS_H_
