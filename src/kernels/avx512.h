// Small pieces of the AVX-512 versions. For files compiled with AVX-512 only.
#ifndef OUTRIGGER_SRC_KERNELS_AVX512_H_
#define OUTRIGGER_SRC_KERNELS_AVX512_H_

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

// Everything here has internal linkage: an inline function with external linkage could be merged with a copy that another file compiled for
// another level, and then crash a processor that lacks this one.
namespace outrigger {
namespace {

constexpr size_t kLanes = 16;

// All lanes below `count`: the tail of a row goes through the same instructions as its body, so odd widths need no second loop.
[[maybe_unused]] inline __mmask16 lanes_below(size_t count) {
  return count >= kLanes ? __mmask16{0xffff} : static_cast<__mmask16>((1u << count) - 1);
}

[[maybe_unused]] inline float load_float(const void* src) {
  float value;
  std::memcpy(&value, src, 4);
  return value;
}

// 16 float16 values, anywhere.
[[maybe_unused]] inline __m512 load_halves(const void* src) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(src)));
}

// Bits of the largest magnitude of `count` floats, a multiple of 16: a NaN's are beyond infinity's.
[[maybe_unused]] inline uint32_t most_bits(const float* src, size_t count) {
  __m512i most = _mm512_setzero_si512();
  for (size_t i = 0; i < count; i += kLanes) {
    most = _mm512_max_epi32(most, _mm512_and_si512(_mm512_loadu_si512(src + i), _mm512_set1_epi32(0x7fffffff)));
  }
  return static_cast<uint32_t>(_mm512_reduce_max_epi32(most));
}

// Half onto half, as in avx2.h: the order is ours, while that of a compiler's reduction is its own business.
[[maybe_unused]] inline float sum_of_lanes(__m512 x) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
  __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  four = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
}

}  // namespace
}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_AVX512_H_
