// RMSNorm for AVX2.
#include <cmath>

#include "src/kernels/avx2.h"
#include "src/kernels/rms_norm.h"

namespace outrigger {
namespace {

float sum_of_squares(const float* src, size_t width) {
  constexpr size_t kSums = kRmsNormLanes / kLanes;
  __m256 sums[kSums] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps()};
  for (size_t i = 0; i < width; i += kSums * kLanes) {
    for (size_t s = 0; s < kSums && i + s * kLanes < width; ++s) {
      const __m256 x = _mm256_maskload_ps(src + i + s * kLanes, lanes_below(width - i - s * kLanes));
      sums[s] = _mm256_fmadd_ps(x, x, sums[s]);
    }
  }
  return sum_of_lanes(_mm256_add_ps(_mm256_add_ps(sums[0], sums[2]), _mm256_add_ps(sums[1], sums[3])));
}

}  // namespace

void rms_norm_avx2(const RmsNormArgs& args) {
  for (size_t t = 0; t < args.tokens; ++t) {
    const float* src = args.src + t * args.width;
    float* dst = args.dst + t * args.width;

    const float mean = sum_of_squares(src, args.width) / static_cast<float>(args.width);
    const __m256 scale = _mm256_set1_ps(1 / std::sqrt(mean + args.epsilon));
    for (size_t i = 0; i < args.width; i += kLanes) {
      const __m256i live = lanes_below(args.width - i);
      const __m256 x = _mm256_mul_ps(_mm256_maskload_ps(src + i, live), scale);
      _mm256_maskstore_ps(dst + i, live, _mm256_mul_ps(x, _mm256_maskload_ps(args.weight + i, live)));
    }
  }
}

}  // namespace outrigger
