// Matrix product: the definition.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "src/kernels/matmul.h"
#include "src/kernels/matmul_dense.h"
#include "src/kernels/panel.h"
#include "src/tensor/half.h"

namespace outrigger {
namespace {

// One group of 32 k of one row block, decoded: what the layouts of packed.h hold.
struct DecodedGroup {
  int codes[kPackRows][kGroup];  // the zero point is already taken off
  float scale[kPackRows];
  float minimum[kPackRows];  // 0 but for Q4_1
};

float half_at(const std::byte* src) {
  uint16_t bits;
  std::memcpy(&bits, src, 2);
  return f16_to_float(bits);
}

void decode_group(PackedKind kind, const std::byte* block, size_t group, DecodedGroup& decoded) {
  const bool is_q4_1 = kind == PackedKind::kQ4_1, is_q8 = kind == PackedKind::kQ8_0;
  const size_t code_bytes = is_q8 ? 512 : 256;
  const std::byte* scales = is_q4_1 ? block + group * 320 : block + group / 2 * (64 + 2 * code_bytes) + group % 2 * 32;
  const std::byte* codes = is_q4_1 ? scales + 64 : block + group / 2 * (64 + 2 * code_bytes) + 64 + group % 2 * code_bytes;
  for (size_t row = 0; row < kPackRows; ++row) {
    decoded.scale[row] = half_at(scales + row * 2);
    decoded.minimum[row] = is_q4_1 ? half_at(scales + 32 + row * 2) : 0;
    for (size_t k = 0; k < kGroup; ++k) {
      const size_t quad = k / 4;
      const int byte = std::to_integer<int>(codes[(is_q8 ? quad : quad % 4) * 64 + row * 4 + k % 4]);
      decoded.codes[row][k] = is_q8 ? byte - 128 : (quad < 4 ? byte & 15 : byte >> 4) - (is_q4_1 ? 0 : 8);
    }
  }
}

void add_int8_group(const DecodedGroup& weights, bool has_minimum, const PanelToken& token, size_t group, float* sums) {
  int8_t codes[kGroup];
  float scale, scaled_sum;
  std::memcpy(codes, token.codes(group), kGroup);
  std::memcpy(&scale, token.scale(group), 4);
  std::memcpy(&scaled_sum, token.scaled_sum(group), 4);
  for (size_t row = 0; row < kPackRows; ++row) {
    int dot = 0;
    for (size_t k = 0; k < kGroup; ++k) dot += weights.codes[row][k] * codes[k];
    sums[row] = std::fma(static_cast<float>(dot), weights.scale[row] * scale, sums[row]);
    if (has_minimum) sums[row] = std::fma(weights.minimum[row], scaled_sum, sums[row]);
  }
}

void add_float_group(const DecodedGroup& weights, bool has_minimum, const float* src, float* sums) {
  for (size_t row = 0; row < kPackRows; ++row) {
    for (size_t k = 0; k < kGroup; ++k) {
      float weight = weights.scale[row] * static_cast<float>(weights.codes[row][k]);
      if (has_minimum) weight += weights.minimum[row];
      sums[row] = std::fma(weight, src[k], sums[row]);
    }
  }
}

void sum_block(const MatmulArgs& args, const std::byte* block, size_t t, float* sums) {
  const float* src = args.panel ? nullptr : args.src + t * args.src_stride;
  const bool has_minimum = args.kind == PackedKind::kQ4_1;
  for (size_t g = 0; g < args.columns / kGroup; ++g) {
    DecodedGroup weights;
    decode_group(args.kind, block, g, weights);
    if (args.panel) {
      const PanelToken token(const_cast<std::byte*>(args.panel), args.tokens, args.columns, t);  // only read
      add_int8_group(weights, has_minimum, token, g, sums);
    } else {
      add_float_group(weights, has_minimum, src + g * kGroup, sums);
    }
  }
}

}  // namespace

void matmul_ref(const MatmulArgs& args, size_t block_begin, size_t block_end) {
  if (is_dense(args.kind)) return matmul_dense_ref(args, block_begin, block_end);
  for (size_t b = block_begin; b < block_end; ++b) {
    const std::byte* block = args.weights + b * packed_block_bytes(args.kind, args.columns);
    const size_t live = std::min(kPackRows, args.rows - b * kPackRows);
    for (size_t t = 0; t < args.tokens; ++t) {
      float sums[kPackRows] = {};
      sum_block(args, block, t, sums);
      float* dst = args.dst + t * args.dst_stride + b * kPackRows;
      for (size_t row = 0; row < live; ++row) dst[row] = args.accumulate ? dst[row] + sums[row] : sums[row];
    }
  }
}

}  // namespace outrigger
