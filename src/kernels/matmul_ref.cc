// Matrix product of quantised weights: the definition.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "src/kernels/matmul.h"
#include "src/kernels/matmul_dense.h"
#include "src/kernels/panel.h"
#include "src/tensor/packed_layout.h"

namespace outrigger {
namespace {

// One group of one token's int8 activations.
struct TokenGroup {
  int8_t codes[kGroup];
  float scale, scaled_sum;

  TokenGroup(const PanelToken& token, size_t group) {
    std::memcpy(codes, token.codes(group), kGroup);
    std::memcpy(&scale, token.scale(group), 4);
    std::memcpy(&scaled_sum, token.scaled_sum(group), 4);
  }
};

// The sum of a half's products, and of its activations alone.
struct HalfSums {
  int dot = 0, activations = 0;
};

HalfSums sum_half(const PackedGroup& weights, const TokenGroup& token, size_t half) {
  HalfSums sums;
  for (size_t k = half * kGroup / 2; k < (half + 1) * kGroup / 2; ++k) {
    sums.dot += weights.codes[k] * token.codes[k];
    sums.activations += token.codes[k];
  }
  return sums;
}

float add_int8_group(const GroupLayout& layout, const PackedGroup& weights, const TokenGroup& token, float sum) {
  const HalfSums halves[2] = {sum_half(weights, token, 0), sum_half(weights, token, 1)};
  if (!layout.has_halves()) {
    const float scale = weights.scale * static_cast<float>(weights.sub_scale[0]);
    sum = std::fma(static_cast<float>(halves[0].dot + halves[1].dot), scale * token.scale, sum);
    const float minimum = weights.minimum * static_cast<float>(weights.sub_minimum[0]);
    return layout.has_minimum() ? std::fma(minimum, token.scaled_sum, sum) : sum;
  }
  const auto dot = static_cast<float>(weights.sub_scale[0] * halves[0].dot + weights.sub_scale[1] * halves[1].dot);
  if (!layout.has_minimum()) return std::fma(dot, weights.scale * token.scale, sum);
  const int activations = weights.sub_minimum[0] * halves[0].activations + weights.sub_minimum[1] * halves[1].activations;
  return std::fma(std::fma(dot, weights.scale, weights.minimum * static_cast<float>(activations)), token.scale, sum);
}

float add_float_group(const PackedGroup& weights, const float* src, float sum) {
  for (size_t k = 0; k < kGroup; ++k) sum = std::fma(weights.value(k), src[k], sum);
  return sum;
}

// Up to kTokenTile tokens at once, only so that they share the decoding of the weights.
void run_tile(const MatmulArgs& args, const GroupLayout& layout, const std::byte* block, size_t first_token, size_t tokens,
              float (&sums)[kTokenTile][kPackRows]) {
  for (size_t g = 0; g < args.columns / kGroup; ++g) {
    for (size_t row = 0; row < kPackRows; ++row) {
      const PackedGroup weights = read_packed_group(layout, block, g, row);
      for (size_t t = 0; t < tokens; ++t) {
        if (args.panel) {
          const PanelToken token(const_cast<std::byte*>(args.panel), args.tokens, args.columns, first_token + t);  // only read
          sums[t][row] = add_int8_group(layout, weights, TokenGroup(token, g), sums[t][row]);
        } else {
          sums[t][row] = add_float_group(weights, args.src + (first_token + t) * args.src_stride + g * kGroup, sums[t][row]);
        }
      }
    }
  }
}

}  // namespace

void matmul_ref(const MatmulArgs& args, size_t block_begin, size_t block_end) {
  if (is_dense(args.kind)) return matmul_dense_ref(args, block_begin, block_end);
  const GroupLayout& layout = *find_group_layout(args.kind);
  for (size_t b = block_begin; b < block_end; ++b) {
    const std::byte* block = args.weights + b * args.block_bytes();
    const size_t live = std::min(kPackRows, args.rows - b * kPackRows);
    for (size_t first = 0; first < args.tokens; first += kTokenTile) {
      const size_t tokens = std::min(kTokenTile, args.tokens - first);
      float sums[kTokenTile][kPackRows] = {};
      run_tile(args, layout, block, first, tokens, sums);
      for (size_t t = 0; t < tokens; ++t) {
        float* dst = args.dst + (first + t) * args.dst_stride + b * kPackRows;
        for (size_t row = 0; row < live; ++row) dst[row] = args.accumulate ? dst[row] + sums[t][row] : sums[t][row];
      }
    }
  }
}

}  // namespace outrigger
