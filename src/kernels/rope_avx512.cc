// RoPE for AVX-512.
#include "src/kernels/avx512.h"
#include "src/kernels/rope.h"

namespace outrigger {
namespace {

// Eight pairs at a time, cosines and sines interleaved as the pairs are. fmaddsub subtracts in the even lanes and adds in the odd ones.
void turn_interleaved(float* head, const float* cos_sin, size_t rotary_dim) {
  for (size_t i = 0; i < rotary_dim; i += kLanes) {
    const __mmask16 live = lanes_below(rotary_dim - i);
    const __m512 x = _mm512_maskz_loadu_ps(live, head + i), turn = _mm512_maskz_loadu_ps(live, cos_sin + i);
    const __m512 swapped = _mm512_permute_ps(x, 0xb1);
    const __m512 by_sine = _mm512_mul_ps(swapped, _mm512_movehdup_ps(turn));
    _mm512_mask_storeu_ps(head + i, live, _mm512_fmaddsub_ps(x, _mm512_moveldup_ps(turn), by_sine));
  }
}

void turn_halves(float* head, const float* cos_sin, size_t pairs) {
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
  for (size_t i = 0; i < pairs; i += kLanes) {
    const size_t left = pairs - i;
    const __mmask16 live = lanes_below(left);
    const __m512 low = _mm512_maskz_loadu_ps(lanes_below(2 * left), cos_sin + 2 * i);
    const __m512 high = left > 8 ? _mm512_maskz_loadu_ps(lanes_below(2 * left - kLanes), cos_sin + 2 * i + kLanes) : low;
    const __m512 cosine = _mm512_permutex2var_ps(low, even, high), sine = _mm512_permutex2var_ps(low, odd, high);
    const __m512 a = _mm512_maskz_loadu_ps(live, head + i), b = _mm512_maskz_loadu_ps(live, head + pairs + i);
    _mm512_mask_storeu_ps(head + i, live, _mm512_fmsub_ps(a, cosine, _mm512_mul_ps(b, sine)));
    _mm512_mask_storeu_ps(head + pairs + i, live, _mm512_fmadd_ps(b, cosine, _mm512_mul_ps(a, sine)));
  }
}

}  // namespace

void rope_avx512(const RopeArgs& args) {
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
