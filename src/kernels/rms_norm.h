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

/// dst[t, i] = weight[i] * src[t, i] / sqrt(mean_i(src[t, i]^2) + epsilon).
/// Any thread; threads may work on disjoint token ranges by offsetting src and dst. Allocates nothing.
/// Bits depend on the instruction level only: each token is summed alone and in one order, so neither the number of
/// tokens nor of threads changes a result. Versions differ from rms_norm_ref by at most 3 units in the last place.
/// @source Zhang and Sennrich 2019 (arXiv 1910.07467), eq. 4; epsilon inside the root, as the llama family has it.
void rms_norm(const RmsNormArgs& args);

void rms_norm_ref(const RmsNormArgs& args);     ///< the definition, in double precision and in the order of the formula
void rms_norm_avx2(const RmsNormArgs& args);    ///< needs SimdLevel::kAvx2
void rms_norm_avx512(const RmsNormArgs& args);  ///< needs SimdLevel::kAvx512

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_RMS_NORM_H_
