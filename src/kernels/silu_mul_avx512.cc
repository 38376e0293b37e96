// SwiGLU's middle for AVX-512.
#include "src/kernels/avx512.h"
#include "src/kernels/exp_avx512.h"
#include "src/kernels/silu_mul.h"

namespace outrigger {

void silu_mul_avx512(const SiluMulArgs& args) {
  for (size_t i = 0; i < args.count; i += kLanes) {
    const __mmask16 live = lanes_below(args.count - i);
    const __m512 gate = _mm512_maskz_loadu_ps(live, args.gate + i), up = _mm512_maskz_loadu_ps(live, args.up + i);
    const __m512 minus_gate = _mm512_xor_ps(gate, _mm512_set1_ps(-0.0f));
    const __m512 silu = _mm512_div_ps(gate, _mm512_add_ps(_mm512_set1_ps(1), exp16(minus_gate)));
    _mm512_mask_storeu_ps(args.dst + i, live, _mm512_mul_ps(silu, up));
  }
}

}  // namespace outrigger
