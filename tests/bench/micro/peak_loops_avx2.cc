// Peak loops at AVX2.
#include <immintrin.h>

#include "src/kernels/unroll.h"
#include "tests/bench/micro/peak_loops.h"

namespace outrigger::bench {
namespace {

constexpr int kSums = 12;  // with two operands, 14 of 16 registers; fma needs 2 a cycle x 4 cycles

int run_int8(int turns) {
  __m256i sums[kSums];
  OTR_UNROLLED(kSums, i, { sums[i] = _mm256_setzero_si256(); });
  const __m256i a = _mm256_set1_epi8(1), b = _mm256_set1_epi8(2);
  for (int turn = 0; turn < turns; ++turn) {
    OTR_UNROLLED(kSums, i, {
      // As intrinsics, the product would be computed once, before the loop; in two statements, all products would be kept at once.
      __m256i product;
      asm("vpmaddubsw %3, %2, %1\n\tvpaddw %1, %0, %0" : "+x"(sums[i]), "=&x"(product) : "x"(a), "x"(b));
    });
  }
  OTR_UNROLLED(kSums - 1, i, { sums[i + 1] = _mm256_xor_si256(sums[i + 1], sums[i]); });
  return _mm256_extract_epi32(sums[kSums - 1], 0);
}

int run_fp32(int turns) {
  __m256 sums[kSums];
  OTR_UNROLLED(kSums, i, { sums[i] = _mm256_set1_ps(static_cast<float>(i)); });
  const __m256 a = _mm256_set1_ps(0.5f), b = _mm256_set1_ps(1.0f);
  for (int turn = 0; turn < turns; ++turn) OTR_UNROLLED(kSums, i, { sums[i] = _mm256_fmadd_ps(sums[i], a, b); });
  OTR_UNROLLED(kSums - 1, i, { sums[i + 1] = _mm256_add_ps(sums[i + 1], sums[i]); });
  return static_cast<int>(_mm256_cvtss_f32(sums[kSums - 1]));
}

}  // namespace

PeakLoop int8_loop_avx2() { return {kSums * 32 * 2.0, run_int8}; }
PeakLoop fp32_loop_avx2() { return {kSums * 8 * 2.0, run_fp32}; }

uint64_t read_avx2(const std::byte* data, size_t bytes) {
  constexpr int kAtOnce = 8;
  __m256i sums[kAtOnce];
  OTR_UNROLLED(kAtOnce, i, { sums[i] = _mm256_setzero_si256(); });
  for (size_t at = 0; at < bytes; at += kAtOnce * 32) {
    OTR_UNROLLED(kAtOnce, i, { sums[i] = _mm256_xor_si256(sums[i], _mm256_load_si256(reinterpret_cast<const __m256i*>(data + at) + i)); });
  }
  OTR_UNROLLED(kAtOnce - 1, i, { sums[i + 1] = _mm256_xor_si256(sums[i + 1], sums[i]); });
  return static_cast<uint64_t>(_mm256_extract_epi64(sums[kAtOnce - 1], 0));
}

}  // namespace outrigger::bench
