// bf16 activations for AVX-512.
#include "src/kernels/avx512.h"
#include "src/kernels/bf16_activations.h"

namespace outrigger {

void round_activations_avx512(const Bf16Args& args, size_t token_begin, size_t token_end) {
  const size_t row_bytes = bf16_row_bytes(args.width);
  const __m512i infinity = _mm512_set1_epi32(0x7f800000);
  for (size_t t = token_begin; t < token_end; ++t) {
    const float* const src = args.src + t * args.src_stride;
    std::byte* const row = args.panel + t * row_bytes;
    for (size_t k = 0; k * 2 < row_bytes; k += kLanes) {
      const __mmask16 live = k < args.width ? lanes_below(args.width - k) : __mmask16{0};
      const __m512i bits = _mm512_castps_si512(_mm512_maskz_loadu_ps(live, src + k));
      const __m512i magnitude = _mm512_and_si512(bits, _mm512_set1_epi32(0x7fffffff)), top = _mm512_srli_epi32(bits, 16);
      const __m512i half = _mm512_add_epi32(_mm512_set1_epi32(0x7fff), _mm512_and_si512(top, _mm512_set1_epi32(1)));
      __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(bits, half), 16);
      rounded = _mm512_mask_or_epi32(rounded, _mm512_cmpgt_epu32_mask(magnitude, infinity), top, _mm512_set1_epi32(0x40));
      const __mmask16 is_subnormal = _mm512_cmplt_epu32_mask(magnitude, _mm512_set1_epi32(0x00800000));
      rounded = _mm512_mask_and_epi32(rounded, is_subnormal, top, _mm512_set1_epi32(0x8000));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(row + k * 2), _mm512_cvtepi32_epi16(rounded));
    }
  }
}

}  // namespace outrigger
