// RMSNorm: scales each token's vector to unit root mean square, then by a learned weight.
#ifndef OUTRIGGER_SRC_KERNELS_RMS_NORM_H_
#define OUTRIGGER_SRC_KERNELS_RMS_NORM_H_

#include <cstddef>

namespace outrigger {

/// What RMSNorm reads and writes. Nothing is owned; `dst` may be `src`, partial overlap is not allowed.
struct RmsNormArgs {
  const float* src;     ///< [tokens, width], row-major
  const float* weight;  ///< [width]
  float* dst;           ///< [tokens, width], row-major
  size_t tokens;
  size_t width;   ///< at least 1
  float epsilon;  ///< added to the mean square; > 0
};

/// Squares are summed in this many lanes, element i in lane i % kRmsNormLanes; then lane by lane with the one half the lanes further on,
/// until one is left. Two vector registers of AVX-512 or four of AVX2, enough not to wait for an addition.
inline constexpr size_t kRmsNormLanes = 32;

/// dst[t, i] = weight[i] * src[t, i] / sqrt(mean_i(src[t, i]^2) + epsilon).
/// Any thread; threads may work on disjoint token ranges by offsetting src and dst. Allocates nothing.
/// The bits are the same at every level and do not depend on the other tokens; within 3 units in the last place of the exact value.
/// @source Zhang and Sennrich 2019 (arXiv 1910.07467), eq. 4; epsilon inside the root, as the llama family has it.
void rms_norm(const RmsNormArgs& args);

void rms_norm_ref(const RmsNormArgs& args);      ///< the definition
void rms_norm_avx2(const RmsNormArgs& args);    ///< needs SimdLevel::kAvx2
void rms_norm_avx512(const RmsNormArgs& args);  ///< needs SimdLevel::kAvx512

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_RMS_NORM_H_
