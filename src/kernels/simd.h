// The instruction level the kernels run at: what was built, what this processor has, and what the user or a test allows.
#ifndef OUTRIGGER_SRC_KERNELS_SIMD_H_
#define OUTRIGGER_SRC_KERNELS_SIMD_H_

#include <cstdint>

namespace outrigger {

enum class SimdLevel : uint8_t {
  kNone,    ///< the plain twins
  kAvx2,    ///< AVX2, FMA, F16C
  kAvx512,  ///< AVX-512 F, BW, VL, DQ and VNNI
};

/// The fastest level that was built and that the processor and the operating system support. Any thread; asks the processor once.
SimdLevel best_simd_level();

/// Whether level kAvx512 has the dot product of bf16 pairs too: built, and the processor's. Any thread; asks the processor once.
bool has_bf16_dot();

/// The level in use: the best one, unless limited. The environment variable OUTRIGGER_SIMD=none|avx2|avx512 limits it from the start;
/// another value is ignored. Every kernel asks at each call. Cost: one relaxed load.
SimdLevel simd_level();

/// From now on simd_level() is the lower of `most` and best_simd_level(). For tests and the tool's options; a run that computes meanwhile
/// may mix levels.
void limit_simd_level(SimdLevel most);

/// "none", "avx2" or "avx512".
const char* simd_level_name(SimdLevel level);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_SIMD_H_
