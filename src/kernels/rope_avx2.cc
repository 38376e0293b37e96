// RoPE for AVX2.
#include "src/kernels/avx2.h"
#include "src/kernels/rope.h"

namespace outrigger {
namespace {

// Four pairs at a time, cosines and sines interleaved as the pairs are. fmaddsub subtracts in the even lanes and adds in the odd ones.
void turn_interleaved(float* head, const float* cos_sin, size_t rotary_dim) {
  for (size_t i = 0; i < rotary_dim; i += kLanes) {
    const __m256i live = lanes_below(rotary_dim - i);
    const __m256 x = _mm256_maskload_ps(head + i, live), turn = _mm256_maskload_ps(cos_sin + i, live);
    const __m256 by_sine = _mm256_mul_ps(_mm256_permute_ps(x, 0xb1), _mm256_movehdup_ps(turn));
    _mm256_maskstore_ps(head + i, live, _mm256_fmaddsub_ps(x, _mm256_moveldup_ps(turn), by_sine));
  }
}

void turn_halves(float* head, const float* cos_sin, size_t pairs) {
  for (size_t i = 0; i < pairs; i += kLanes) {
    const size_t left = pairs - i;
    const __m256i live = lanes_below(left);
    const __m256 low = _mm256_maskload_ps(cos_sin + 2 * i, lanes_below(2 * left));
    const __m256 high = left > 4 ? _mm256_maskload_ps(cos_sin + 2 * i + kLanes, lanes_below(2 * left - kLanes)) : low;
    // A shuffle works within halves of a register: first bring the quarters that belong together side by side.
    const __m256 outer = _mm256_permute2f128_ps(low, high, 0x20), inner = _mm256_permute2f128_ps(low, high, 0x31);
    const __m256 cosine = _mm256_shuffle_ps(outer, inner, 0x88), sine = _mm256_shuffle_ps(outer, inner, 0xdd);
    const __m256 a = _mm256_maskload_ps(head + i, live), b = _mm256_maskload_ps(head + pairs + i, live);
    _mm256_maskstore_ps(head + i, live, _mm256_fmsub_ps(a, cosine, _mm256_mul_ps(b, sine)));
    _mm256_maskstore_ps(head + pairs + i, live, _mm256_fmadd_ps(b, cosine, _mm256_mul_ps(a, sine)));
  }
}

}  // namespace

void rope_avx2(const RopeArgs& args) {
  for (size_t t = 0; t < args.tokens; ++t) {
    const float* cos_sin = args.cos_sin + t * args.rotary_dim;
    for (size_t h = 0; h < args.heads; ++h) {
      float* head = args.x + t * args.stride + h * args.head_dim;
      if (args.style == RopeStyle::kInterleaved) {
        turn_interleaved(head, cos_sin, args.rotary_dim);
      } else {
        turn_halves(head, cos_sin, args.rotary_dim / 2);
      }
    }
  }
}

}  // namespace outrigger
