// SwiGLU's middle: the gate through SiLU, times the other projection.
#ifndef OUTRIGGER_SRC_KERNELS_SILU_MUL_H_
#define OUTRIGGER_SRC_KERNELS_SILU_MUL_H_

#include <cstddef>

namespace outrigger {

/// What it reads and writes. Nothing is owned; `dst` may be `gate` or `up`, partial overlap is not allowed.
struct SiluMulArgs {
  const float* gate;  ///< [count]
  const float* up;    ///< [count]
  float* dst;         ///< [count]
  size_t count;
};

/// dst[i] = gate[i] / (1 + exp(-gate[i])) * up[i].
/// Any thread; threads may take disjoint ranges. Allocates nothing. The bits are the same at every level and depend on gate[i] and up[i]
/// alone; within 4 units in the last place of the exact value, or 4e-36 where SiLU all but vanishes (gates below -88).
void silu_mul(const SiluMulArgs& args);

void silu_mul_ref(const SiluMulArgs& args);     ///< the definition
void silu_mul_avx2(const SiluMulArgs& args);    ///< needs SimdLevel::kAvx2
void silu_mul_avx512(const SiluMulArgs& args);  ///< needs SimdLevel::kAvx512

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_SILU_MUL_H_
