// SwiGLU's middle for AVX2.
#include "src/kernels/avx2.h"
#include "src/kernels/exp_avx2.h"
#include "src/kernels/silu_mul.h"

namespace outrigger {

void silu_mul_avx2(const SiluMulArgs& args) {
  for (size_t i = 0; i < args.count; i += kLanes) {
    const __m256i live = lanes_below(args.count - i);
    const __m256 gate = _mm256_maskload_ps(args.gate + i, live), up = _mm256_maskload_ps(args.up + i, live);
    const __m256 minus_gate = _mm256_xor_ps(gate, _mm256_set1_ps(-0.0f));
    const __m256 silu = _mm256_div_ps(gate, _mm256_add_ps(_mm256_set1_ps(1), exp8(minus_gate)));
    _mm256_maskstore_ps(args.dst + i, live, _mm256_mul_ps(silu, up));
  }
}

}  // namespace outrigger
