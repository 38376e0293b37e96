// Matrix product of float weights: the definition.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "src/kernels/bf16_activations.h"
#include "src/kernels/matmul_dense.h"
#include "src/tensor/half.h"

namespace outrigger {
namespace {

float bf16_at(const std::byte* src) {
  uint16_t bits;
  std::memcpy(&bits, src, 2);
  return bf16_to_float(bits);
}

float element(PackedKind kind, const std::byte* block, size_t k, size_t row) {
  if (kind == PackedKind::kBF16) return bf16_at(block + k / 2 * kPackRows * 4 + row * 4 + k % 2 * 2);
  const size_t at = k * kPackRows + row;
  if (kind == PackedKind::kF32) {
    float value;
    std::memcpy(&value, block + at * 4, 4);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, block + at * 2, 2);
  return f16_to_float(bits);
}

float dot_floats(const MatmulArgs& args, const std::byte* block, size_t row, size_t t) {
  float sums[kDenseChains] = {};
  const float* const src = args.src + t * args.src_stride;
  for (size_t k = 0; k < args.columns; ++k) {
    float& sum = sums[k % kDenseChains];
    sum = std::fma(element(args.kind, block, k, row), src[k], sum);
  }
  return sums[0] + sums[1];
}

float dot_bf16(const MatmulArgs& args, const std::byte* block, size_t row, size_t t) {
  float sums[kDenseChains] = {};
  const std::byte* const src = args.panel + t * bf16_row_bytes(args.columns);
  for (size_t pair = 0; pair < bf16_pairs(args.columns); ++pair) {
    float& sum = sums[pair % kDenseChains];
    for (size_t k : {2 * pair + 1, 2 * pair}) sum = std::fma(element(args.kind, block, k, row), bf16_at(src + k * 2), sum);
  }
  return sums[0] + sums[1];
}

}  // namespace

void matmul_dense_ref(const MatmulArgs& args, size_t block_begin, size_t block_end) {
  for (size_t b = block_begin; b < block_end; ++b) {
    const std::byte* block = args.weights + b * args.block_bytes();
    const size_t live = std::min(kPackRows, args.rows - b * kPackRows);
    for (size_t t = 0; t < args.tokens; ++t) {
      float* dst = args.dst + t * args.dst_stride + b * kPackRows;
      for (size_t row = 0; row < live; ++row) {
        const float sum = (args.panel ? dot_bf16 : dot_floats)(args, block, row, t);
        dst[row] = args.accumulate ? dst[row] + sum : sum;
      }
    }
  }
}

}  // namespace outrigger
