// The choice among an operator's versions, for the <op>.cc files.
#ifndef OUTRIGGER_SRC_KERNELS_DISPATCH_H_
#define OUTRIGGER_SRC_KERNELS_DISPATCH_H_

#include "src/kernels/simd.h"

// Built without a level, its versions do not exist: then the one below stands in, and best_simd_level() never names the missing one.
#if defined(OTR_KERNELS_AVX2)
#define OTR_AVX2_VERSION(op) op##_avx2
#else
#define OTR_AVX2_VERSION(op) op##_ref
#endif
#if defined(OTR_KERNELS_AVX512)
#define OTR_AVX512_VERSION(op) op##_avx512
#else
#define OTR_AVX512_VERSION(op) OTR_AVX2_VERSION(op)
#endif

/// The version of `op` for the level in use: OTR_VERSION(rope)(args).
#define OTR_VERSION(op) ::outrigger::version_in_use(op##_ref, OTR_AVX2_VERSION(op), OTR_AVX512_VERSION(op))

namespace outrigger {

template <typename Fn>
Fn* version_in_use(Fn* none, Fn* avx2, Fn* avx512) {
  switch (simd_level()) {
    case SimdLevel::kAvx512:
      return avx512;
    case SimdLevel::kAvx2:
      return avx2;
    case SimdLevel::kNone:
      break;
  }
  return none;
}

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_DISPATCH_H_
