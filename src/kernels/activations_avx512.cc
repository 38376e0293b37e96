// Int8 activations for AVX-512.
#include <limits>

#include "src/kernels/avx512.h"
#include "src/kernels/panel.h"

namespace outrigger {
namespace {

// Stores the scale and the sums of codes: as unsigned bytes 128 higher, which one instruction adds up by eights.
inline void store_group(const PanelToken& token, size_t group, float scale, __m256i codes) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(token.codes(group)), codes);
  const __m256i eights = _mm256_sad_epu8(_mm256_xor_si256(codes, _mm256_set1_epi8(-128)), _mm256_setzero_si256());
  const __m256i halves = _mm256_add_epi64(eights, _mm256_bsrli_epi128(eights, 8));
  constexpr int32_t kExtra = 128 * static_cast<int32_t>(kGroup) / 2;
  store_scale_and_sums(token, group, scale, _mm_cvtsi128_si32(_mm256_castsi256_si128(halves)) - kExtra,
                       _mm_cvtsi128_si32(_mm256_extracti128_si256(halves, 1)) - kExtra);
}

void quantize_group(const float* src, const PanelToken& token, size_t group) {
  const __m512 low = _mm512_loadu_ps(src), high = _mm512_loadu_ps(src + kLanes);
  // Magnitudes compared as integers: the same order, with infinities above all numbers and NaNs above those.
  const __m512i bits = _mm512_max_epu32(_mm512_castps_si512(_mm512_abs_ps(low)), _mm512_castps_si512(_mm512_abs_ps(high)));
  const float amax = _mm512_cvtss_f32(_mm512_castsi512_ps(_mm512_set1_epi32(static_cast<int>(_mm512_reduce_max_epu32(bits)))));

  __m256i codes = _mm256_setzero_si256();
  float scale = amax <= std::numeric_limits<float>::max() ? 0 : std::numeric_limits<float>::quiet_NaN();
  if (amax >= kLeastAmax && scale == 0) {
    const __m512 inverse = _mm512_set1_ps(127 / amax);
    const __m128i a = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(low, inverse)));
    const __m128i b = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(high, inverse)));
    codes = _mm256_inserti128_si256(_mm256_castsi128_si256(a), b, 1);
    scale = amax / 127;
  }
  store_group(token, group, scale, codes);
}

}  // namespace

void quantize_activations_avx512(const QuantizeArgs& args, size_t token_begin, size_t token_end) {
  for (size_t t = token_begin; t < token_end; ++t) {
    const PanelToken token(args.panel, args.tokens, args.width, t);
    const float* src = args.src + t * args.src_stride;
    for (size_t g = 0; g < args.width / kGroup; ++g) quantize_group(src + g * kGroup, token, g);
  }
}

}  // namespace outrigger
