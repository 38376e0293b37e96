// The peak loop of processors that multiply bfloat16 pairs.
#include <immintrin.h>

#include "src/kernels/unroll.h"
#include "tests/bench/micro/peak_loops.h"

namespace outrigger::bench {
namespace {

constexpr int kSums = 24;

int run_bf16(int turns) {
  __m512 sums[kSums];
  OTR_UNROLLED(kSums, i, { sums[i] = _mm512_set1_ps(static_cast<float>(i)); });
  const __m512bh a = _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.5f), _mm512_set1_ps(0.25f)), b = a;
  for (int turn = 0; turn < turns; ++turn) OTR_UNROLLED(kSums, i, { sums[i] = _mm512_dpbf16_ps(sums[i], a, b); });
  OTR_UNROLLED(kSums - 1, i, { sums[i + 1] = _mm512_add_ps(sums[i + 1], sums[i]); });
  return static_cast<int>(_mm512_cvtss_f32(sums[kSums - 1]));
}

}  // namespace

PeakLoop bf16_loop_avx512() { return {kSums * 32 * 2.0, run_bf16}; }

}  // namespace outrigger::bench
