// exp of one float, operation by operation as the vector versions compute it: the definition of its bits.
#ifndef OUTRIGGER_SRC_KERNELS_EXP_REF_H_
#define OUTRIGGER_SRC_KERNELS_EXP_REF_H_

#include <bit>
#include <cmath>
#include <cstdint>

#include "src/kernels/exp_constants.h"

namespace outrigger {

/// 2^n for n in -126 .. 127.
inline float power_of_two(int n) { return std::bit_cast<float>(static_cast<uint32_t>(n + 127) << 23); }

/// Within 1 unit in the last place of exp(x). exp(-inf) = 0; a NaN stays one.
inline float exp_ref(float x) {
  if (std::isnan(x)) return x;
  x = std::fmax(kExpLeast, std::fmin(kExpMost, x));
  const float n = std::nearbyint(x * kLog2E);
  float r = std::fma(-n, kLn2High, x);
  r = std::fma(-n, kLn2Low, r);
  float p = std::fma(kExpC4, r, kExpC3);
  p = std::fma(p, r, kExpC2);
  p = std::fma(p, r, kExpC1);
  p = std::fma(p, r, kExpC0);
  p = std::fma(p * r, r, r) + 1;
  // In two steps: n reaches from -150 to 128, an exponent only from -126 to 127. The first product is exact.
  const int whole = static_cast<int>(n), half = whole >> 1;
  return p * power_of_two(half) * power_of_two(whole - half);
}

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_EXP_REF_H_
