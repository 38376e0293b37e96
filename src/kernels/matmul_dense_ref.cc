// Matrix product with float weights: the definition.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "src/kernels/matmul_dense.h"
#include "src/tensor/half.h"

namespace outrigger {
namespace {

float element(PackedKind kind, const std::byte* block, size_t k, size_t row) {
  const size_t at = k * kPackRows + row;
  if (kind == PackedKind::kF32) {
    float value;
    std::memcpy(&value, block + at * 4, 4);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, block + at * 2, 2);
  return kind == PackedKind::kF16 ? f16_to_float(bits) : bf16_to_float(bits);
}

}  // namespace

void matmul_dense_ref(const MatmulArgs& args, size_t block_begin, size_t block_end) {
  for (size_t b = block_begin; b < block_end; ++b) {
    const std::byte* block = args.weights + b * packed_block_bytes(args.kind, args.columns);
    const size_t live = std::min(kPackRows, args.rows - b * kPackRows);
    for (size_t t = 0; t < args.tokens; ++t) {
      float sums[kPackRows] = {};
      const float* src = args.src + t * args.src_stride;
      for (size_t k = 0; k < args.columns; ++k) {
        for (size_t row = 0; row < kPackRows; ++row) sums[row] = std::fma(element(args.kind, block, k, row), src[k], sums[row]);
      }
      float* dst = args.dst + t * args.dst_stride + b * kPackRows;
      for (size_t row = 0; row < live; ++row) dst[row] = args.accumulate ? dst[row] + sums[row] : sums[row];
    }
  }
}

}  // namespace outrigger
