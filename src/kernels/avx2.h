// Small pieces of the AVX2 versions. For files compiled with AVX2, FMA and F16C only.
#ifndef OUTRIGGER_SRC_KERNELS_AVX2_H_
#define OUTRIGGER_SRC_KERNELS_AVX2_H_

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

// Internal linkage for the reason given in avx512.h.
namespace outrigger {
namespace {

constexpr size_t kLanes = 8;

// All bits of the lanes below `count`: the tail of a row goes through the same instructions as its body.
[[maybe_unused]] inline __m256i lanes_below(size_t count) {
  const int live = count >= kLanes ? static_cast<int>(kLanes) : static_cast<int>(count);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(live), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

[[maybe_unused]] inline float load_float(const void* src) {
  float value;
  std::memcpy(&value, src, 4);
  return value;
}

[[maybe_unused]] inline int32_t load_int(const void* src) {
  int32_t value;
  std::memcpy(&value, src, 4);
  return value;
}

[[maybe_unused]] inline __m256i load_bytes(const void* src) { return _mm256_loadu_si256(static_cast<const __m256i*>(src)); }

// 8 float16 values, anywhere.
[[maybe_unused]] inline __m256 load_halves(const void* src) { return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(src))); }

[[maybe_unused]] inline float sum_of_lanes(__m256 x) {
  __m128 half = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  half = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}

}  // namespace
}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_AVX2_H_
