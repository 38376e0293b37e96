// Sparse residual: the definition.
#include <cmath>
#include <cstring>

#include "src/kernels/sparse_residual.h"
#include "src/tensor/codebooks.h"
#include "src/tensor/half.h"

namespace outrigger {
namespace {

constexpr size_t kBlockBytes = 18;

float scale_of(const std::byte* block) {
  uint16_t bits;
  std::memcpy(&bits, block, 2);
  return f16_to_float(bits);
}

// A block's first half lies in the low four bits of its 16 bytes, the second in the high ones.
float code_of(DType type, const std::byte* block, size_t place) {
  const unsigned both = std::to_integer<unsigned>(block[2 + place % 16]), code = place < 16 ? both & 15 : both >> 4;
  return type == DType::kIQ4_NL ? static_cast<float>(kNonLinearValues[code]) : static_cast<float>(code) - 8;
}

}  // namespace

size_t choose_columns_ref(const float* x, const float* norms, size_t columns, float threshold, uint32_t* chosen) {
  size_t count = 0;
  for (size_t i = 0; i < columns; ++i) {
    if (std::fabs(x[i]) * norms[i] > threshold) chosen[count++] = static_cast<uint32_t>(i);
  }
  return count;
}

void sparse_residual_ref(const SparseResidualArgs& args, size_t row_begin, size_t row_end) {
  const size_t column_bytes = args.rows / kResidualGroup * kBlockBytes;
  for (size_t t = 0; t < args.tokens; ++t) {
    const uint32_t* const chosen = args.chosen + t * args.chosen_stride;
    for (size_t r = row_begin; r < row_end; ++r) {
      float sum = 0;
      for (const uint32_t* i = chosen; i != chosen + args.counts[t]; ++i) {
        const std::byte* const block = args.residual + *i * column_bytes + r / kResidualGroup * kBlockBytes;
        sum = std::fma(code_of(args.type, block, r % kResidualGroup), args.src[t * args.src_stride + *i] * scale_of(block), sum);
      }
      args.dst[t * args.dst_stride + r] += args.bias == nullptr ? sum : sum + args.bias[r];
    }
  }
}

}  // namespace outrigger
