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

// Bits of the largest magnitude of `count` floats, a multiple of 8: a NaN's are beyond infinity's.
[[maybe_unused]] inline uint32_t most_bits(const float* src, size_t count) {
  __m256i most = _mm256_setzero_si256();
  for (size_t i = 0; i < count; i += kLanes) {
    most = _mm256_max_epi32(most, _mm256_and_si256(load_bytes(src + i), _mm256_set1_epi32(0x7fffffff)));
  }
  __m128i four = _mm_max_epi32(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
  four = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return static_cast<uint32_t>(_mm_cvtsi128_si32(_mm_max_epi32(four, _mm_shuffle_epi32(four, 0xb1))));
}

[[maybe_unused]] inline float sum_of_lanes(__m256 x) {
  __m128 half = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  half = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}

}  // namespace
}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_AVX2_H_
