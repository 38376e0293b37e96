// exp of 16 floats. For files compiled with AVX-512 only.
#ifndef OUTRIGGER_SRC_KERNELS_EXP_AVX512_H_
#define OUTRIGGER_SRC_KERNELS_EXP_AVX512_H_

#include <immintrin.h>

#include "src/kernels/exp_constants.h"

namespace outrigger {
namespace {

// Within 1 unit in the last place. exp(-inf) = 0; a NaN stays one, since min and max give their second operand when either is a NaN.
inline __m512 exp16(__m512 x) {
  x = _mm512_max_ps(_mm512_set1_ps(kExpLeast), _mm512_min_ps(_mm512_set1_ps(kExpMost), x));
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(kLog2E)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(kLn2High), x);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(kLn2Low), r);
  __m512 p = _mm512_fmadd_ps(_mm512_set1_ps(kExpC4), r, _mm512_set1_ps(kExpC3));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(kExpC2));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(kExpC1));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(kExpC0));
  p = _mm512_fmadd_ps(_mm512_mul_ps(p, r), r, r);
  return _mm512_scalef_ps(_mm512_add_ps(p, _mm512_set1_ps(1)), n);
}

}  // namespace
}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_EXP_AVX512_H_
