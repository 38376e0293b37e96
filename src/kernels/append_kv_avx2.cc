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
};

}  // namespace

void append_kv_avx2(const AppendKvArgs& args, size_t kv_head_begin, size_t kv_head_end) {
  append_kv_vector<Avx2>(args, kv_head_begin, kv_head_end);
}

}  // namespace outrigger
