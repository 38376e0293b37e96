// exp of one float on the device: the bits of src/kernels/exp_ref.h, operation by operation.
#ifndef OUTRIGGER_CUDA_KERNELS_EXP_H_
#define OUTRIGGER_CUDA_KERNELS_EXP_H_

#include "cuda/kernels/device_code.h"
#include "src/kernels/exp_constants.h"

namespace outrigger::cuda {

/// 2^n for n in -126 .. 127.
OTR_DEVICE float two_to(int n) { return as_float(static_cast<uint32_t>(n + 127) << 23); }

OTR_DEVICE float exp_of(float x) {
  if (x != x) return x;
  x = fmaxf(kExpLeast, fminf(kExpMost, x));
  const float n = nearbyintf(x * kLog2E);
  float r = fmaf(-n, kLn2High, x);
  r = fmaf(-n, kLn2Low, r);
  float p = fmaf(kExpC4, r, kExpC3);
  p = fmaf(p, r, kExpC2);
  p = fmaf(p, r, kExpC1);
  p = fmaf(p, r, kExpC0);
  p = fmaf(p * r, r, r) + 1;
  const int whole = static_cast<int>(n), half = whole >> 1;
  return p * two_to(half) * two_to(whole - half);
}

}  // namespace outrigger::cuda

#endif  // OUTRIGGER_CUDA_KERNELS_EXP_H_
