// Appending to the key-value cache for AVX2.
#include "src/kernels/append_kv_vector.h"
#include "src/kernels/avx2.h"

namespace outrigger {
namespace {

struct Avx2 {
  static constexpr size_t kLanes = outrigger::kLanes;

  static void store_kv(const float* src, size_t count, float* dst) {
    _mm256_maskstore_ps(dst, lanes_below(count), _mm256_maskload_ps(src, lanes_below(count)));
  }
  static void store_kv(const float* src, size_t count, uint16_t* dst) {
    const __m256 x = _mm256_maskload_ps(src, lanes_below(count));
    const __m128i halves = _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    std::memcpy(dst, &halves, count * sizeof(uint16_t));
  }
  static uint16_t quantize(const float* src, int8_t* codes) {
    const uint32_t most = most_bits(src, kKvGroup);
    const float largest = std::bit_cast<float>(most), scale = largest / 127;
    const float inverse = most < kInfinityBits && largest >= kLeastScaled ? 1 / scale : 0;
    __m256i rounded[kKvGroup / kLanes];
    for (size_t i = 0; i < kKvGroup / kLanes; ++i) {
      const __m256 x = inverse == 0 ? _mm256_setzero_ps() : _mm256_mul_ps(_mm256_loadu_ps(src + i * kLanes), _mm256_set1_ps(inverse));
      // Halves away from zero: just less than a half is added, with x's sign, and the fraction cut off.
      const __m256 half = _mm256_or_ps(_mm256_and_ps(x, _mm256_set1_ps(-0.0f)), _mm256_set1_ps(0x1.fffffep-2f));
      rounded[i] = _mm256_cvttps_epi32(_mm256_add_ps(x, half));
    }
    const __m256i packed = _mm256_packs_epi16(_mm256_packs_epi32(rounded[0], rounded[1]), _mm256_packs_epi32(rounded[2], rounded[3]));
    const __m256i in_order = _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));  // packing works within halves
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes), in_order);
    return most < kInfinityBits ? _cvtss_sh(scale, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC) : uint16_t{0x7e00};
  }
};

}  // namespace

void append_kv_avx2(const AppendKvArgs& args, size_t kv_head_begin, size_t kv_head_end) {
  append_kv_vector<Avx2>(args, kv_head_begin, kv_head_end);
}

}  // namespace outrigger
