// Peak loops at AVX-512 with VNNI.
#include <immintrin.h>

#include "src/kernels/unroll.h"
#include "tests/bench/micro/peak_loops.h"

namespace outrigger::bench {
namespace {

constexpr int kSums = 24;  // with two operands, 26 of 32 registers; 2 a cycle x 5 cycles would do

// Through memory: for gcc 12 the extracting intrinsics read an uninitialised value.
uint64_t first_word(__m512i value) {
  alignas(64) uint64_t words[8];
  _mm512_store_si512(words, value);
  return words[0];
}

int run_int8(int turns) {
  __m512i sums[kSums];
  OTR_UNROLLED(kSums, i, { sums[i] = _mm512_set1_epi32(i); });
  const __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(5);
  for (int turn = 0; turn < turns; ++turn) {
    // As an intrinsic, gcc 12 surrounds it with moves that halve the rate.
    OTR_UNROLLED(kSums, i, { asm("vpdpbusd %2, %1, %0" : "+v"(sums[i]) : "v"(a), "v"(b)); });
  }
  OTR_UNROLLED(kSums - 1, i, { sums[i + 1] = _mm512_xor_si512(sums[i + 1], sums[i]); });
  return static_cast<int>(first_word(sums[kSums - 1]));
}

int run_fp32(int turns) {
  __m512 sums[kSums];
  OTR_UNROLLED(kSums, i, { sums[i] = _mm512_set1_ps(static_cast<float>(i)); });
  const __m512 a = _mm512_set1_ps(0.5f), b = _mm512_set1_ps(1.0f);
  for (int turn = 0; turn < turns; ++turn) OTR_UNROLLED(kSums, i, { sums[i] = _mm512_fmadd_ps(sums[i], a, b); });
  OTR_UNROLLED(kSums - 1, i, { sums[i + 1] = _mm512_add_ps(sums[i + 1], sums[i]); });
  return static_cast<int>(_mm512_cvtss_f32(sums[kSums - 1]));
}

}  // namespace

PeakLoop int8_loop_avx512() { return {kSums * 64 * 2.0, run_int8}; }
PeakLoop fp32_loop_avx512() { return {kSums * 16 * 2.0, run_fp32}; }

uint64_t read_avx512(const std::byte* data, size_t bytes) {
  constexpr int kAtOnce = 8;
  __m512i sums[kAtOnce];
  OTR_UNROLLED(kAtOnce, i, { sums[i] = _mm512_setzero_si512(); });
  for (size_t at = 0; at < bytes; at += kAtOnce * 64) {
    OTR_UNROLLED(kAtOnce, i, { sums[i] = _mm512_xor_si512(sums[i], _mm512_load_si512(data + at + 64 * i)); });
  }
  OTR_UNROLLED(kAtOnce - 1, i, { sums[i + 1] = _mm512_xor_si512(sums[i + 1], sums[i]); });
  return first_word(sums[kAtOnce - 1]);
}

}  // namespace outrigger::bench
