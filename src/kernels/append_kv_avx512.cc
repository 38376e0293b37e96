// Appending to the key-value cache for AVX-512.
#include "src/kernels/append_kv_vector.h"
#include "src/kernels/avx512.h"

namespace outrigger {
namespace {

struct Avx512 {
  static constexpr size_t kLanes = outrigger::kLanes;

  static void store_kv(const float* src, size_t count, float* dst) {
    _mm512_mask_storeu_ps(dst, lanes_below(count), _mm512_maskz_loadu_ps(lanes_below(count), src));
  }
  static void store_kv(const float* src, size_t count, uint16_t* dst) {
    const __m512 x = _mm512_maskz_loadu_ps(lanes_below(count), src);
    const __m256i halves = _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm256_mask_storeu_epi16(dst, lanes_below(count), halves);
  }
  static uint16_t quantize(const float* src, int8_t* codes) {
    const uint32_t most = most_bits(src, kKvGroup);
    const float largest = std::bit_cast<float>(most), scale = largest / 127;
    const float inverse = most < kInfinityBits && largest >= kLeastScaled ? 1 / scale : 0;
    for (size_t i = 0; i < kKvGroup; i += kLanes) {
      const __m512 x = inverse == 0 ? _mm512_setzero_ps() : _mm512_mul_ps(_mm512_loadu_ps(src + i), _mm512_set1_ps(inverse));
      // Halves away from zero: just less than a half is added, with x's sign, and the fraction cut off.
      const __m512 half = _mm512_or_ps(_mm512_and_ps(x, _mm512_set1_ps(-0.0f)), _mm512_set1_ps(0x1.fffffep-2f));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + i), _mm512_cvtepi32_epi8(_mm512_cvttps_epi32(_mm512_add_ps(x, half))));
    }
    return most < kInfinityBits ? _cvtss_sh(scale, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC) : uint16_t{0x7e00};
  }
};

}  // namespace

void append_kv_avx512(const AppendKvArgs& args, size_t kv_head_begin, size_t kv_head_end) {
  append_kv_vector<Avx512>(args, kv_head_begin, kv_head_end);
}

}  // namespace outrigger
