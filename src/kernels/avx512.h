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

}  // namespace
}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_AVX512_H_
