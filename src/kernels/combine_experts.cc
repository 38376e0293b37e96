// The weighted sum over a token's experts, in pieces that stay in the first-level cache.
#include "src/kernels/combine_experts.h"

#include <algorithm>
#include <cmath>

namespace outrigger {
namespace {

constexpr size_t kPiece = 256;  // floats of the running sum, on the stack

float sigmoid_of_dot(const float* a, const float* b, size_t n) {
  double sum = 0;
  for (size_t i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * b[i];
  return static_cast<float>(1 / (1 + std::exp(-sum)));
}

void add_scaled(const float* src, float by, size_t n, float* sum) {
  for (size_t i = 0; i < n; ++i) sum[i] += by * src[i];
}

}  // namespace

void combine_experts(const CombineExpertsArgs& args, size_t token_begin, size_t token_end) {
  for (size_t t = token_begin; t < token_end; ++t) {
    const uint32_t* const row_of = args.row_of + t * args.used;
    const float* const weights = args.weights + t * args.used;
    const float shared = args.shared != nullptr ? sigmoid_of_dot(args.input + t * args.width, args.shared_gate, args.width) : 0;
    for (size_t begin = 0; begin < args.width; begin += kPiece) {
      const size_t n = std::min(kPiece, args.width - begin);
      float sum[kPiece] = {};
      for (size_t i = 0; i < args.used; ++i) add_scaled(args.results + row_of[i] * args.width + begin, weights[i], n, sum);
      if (args.shared != nullptr) add_scaled(args.shared + t * args.width + begin, shared, n, sum);
      add_scaled(sum, 1, n, args.dst + t * args.width + begin);
    }
  }
}

}  // namespace outrigger
