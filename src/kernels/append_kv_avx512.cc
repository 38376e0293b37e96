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
};

}  // namespace

void append_kv_avx512(const AppendKvArgs& args, size_t kv_head_begin, size_t kv_head_end) {
  append_kv_vector<Avx512>(args, kv_head_begin, kv_head_end);
}

}  // namespace outrigger
