// RMSNorm for AVX-512.
#include <cmath>

#include "src/kernels/avx512.h"
#include "src/kernels/rms_norm.h"

namespace outrigger {
namespace {

float sum_of_squares(const float* src, size_t width) {
  static_assert(kRmsNormLanes == 2 * kLanes);
  __m512 even = _mm512_setzero_ps(), odd = _mm512_setzero_ps();
  for (size_t i = 0; i < width; i += 2 * kLanes) {
    const __m512 a = _mm512_maskz_loadu_ps(lanes_below(width - i), src + i);
    even = _mm512_fmadd_ps(a, a, even);
    if (width - i <= kLanes) break;
    const __m512 b = _mm512_maskz_loadu_ps(lanes_below(width - i - kLanes), src + i + kLanes);
    odd = _mm512_fmadd_ps(b, b, odd);
  }
  return sum_of_lanes(_mm512_add_ps(even, odd));
}

}  // namespace

void rms_norm_avx512(const RmsNormArgs& args) {
  for (size_t t = 0; t < args.tokens; ++t) {
    const float* src = args.src + t * args.width;
    float* dst = args.dst + t * args.width;

    const float mean = sum_of_squares(src, args.width) / static_cast<float>(args.width);
    const __m512 scale = _mm512_set1_ps(1 / std::sqrt(mean + args.epsilon));
    for (size_t i = 0; i < args.width; i += kLanes) {
      const __mmask16 live = lanes_below(args.width - i);
      const __m512 x = _mm512_mul_ps(_mm512_maskz_loadu_ps(live, src + i), scale);
      _mm512_mask_storeu_ps(dst + i, live, _mm512_mul_ps(x, _mm512_maskz_loadu_ps(live, args.weight + i)));
    }
  }
}

}  // namespace outrigger
