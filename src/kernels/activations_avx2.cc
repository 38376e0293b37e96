// Int8 activations for AVX2.
#include <limits>

#include "src/kernels/avx2.h"
#include "src/kernels/panel.h"

namespace outrigger {
namespace {

constexpr size_t kVectors = kGroup / kLanes;

// Stores the scale and the sums of codes: as unsigned bytes 128 higher, which one instruction adds up by eights.
inline void store_group(const PanelToken& token, size_t group, float scale, __m256i codes) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(token.codes(group)), codes);
  const __m256i eights = _mm256_sad_epu8(_mm256_xor_si256(codes, _mm256_set1_epi8(-128)), _mm256_setzero_si256());
  const __m256i halves = _mm256_add_epi64(eights, _mm256_bsrli_epi128(eights, 8));
  constexpr int32_t kExtra = 128 * static_cast<int32_t>(kGroup) / 2;
  store_scale_and_sums(token, group, scale, _mm_cvtsi128_si32(_mm256_castsi256_si128(halves)) - kExtra,
                       _mm_cvtsi128_si32(_mm256_extracti128_si256(halves, 1)) - kExtra);
}

// Magnitudes compared as integers: the same order, with infinities above all numbers and NaNs above those.
inline float largest_magnitude(const __m256 (&x)[kVectors]) {
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  __m256i bits = _mm256_setzero_si256();
  for (const __m256& part : x) bits = _mm256_max_epi32(bits, _mm256_and_si256(_mm256_castps_si256(part), magnitude));
  __m128i most = _mm_max_epi32(_mm256_castsi256_si128(bits), _mm256_extracti128_si256(bits, 1));
  most = _mm_max_epi32(most, _mm_shuffle_epi32(most, 0x4e));
  most = _mm_max_epi32(most, _mm_shuffle_epi32(most, 0xb1));
  return _mm_cvtss_f32(_mm_castsi128_ps(most));
}

void quantize_group(const float* src, const PanelToken& token, size_t group) {
  __m256 x[kVectors];
  for (size_t i = 0; i < kVectors; ++i) x[i] = _mm256_loadu_ps(src + i * kLanes);
  const float amax = largest_magnitude(x);

  __m256i codes = _mm256_setzero_si256();
  float scale = amax <= std::numeric_limits<float>::max() ? 0 : std::numeric_limits<float>::quiet_NaN();
  if (amax >= kLeastAmax && scale == 0) {
    const __m256 inverse = _mm256_set1_ps(127 / amax);
    __m256i whole[kVectors];
    for (size_t i = 0; i < kVectors; ++i) whole[i] = _mm256_cvtps_epi32(_mm256_mul_ps(x[i], inverse));
    // Packing works within halves of a register, which leaves groups of four in the order 0 2 4 6 1 3 5 7.
    const __m256i mixed = _mm256_packs_epi16(_mm256_packs_epi32(whole[0], whole[1]), _mm256_packs_epi32(whole[2], whole[3]));
    codes = _mm256_permutevar8x32_epi32(mixed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    scale = amax / 127;
  }
  store_group(token, group, scale, codes);
}

}  // namespace

void quantize_activations_avx2(const QuantizeArgs& args, size_t token_begin, size_t token_end) {
  for (size_t t = token_begin; t < token_end; ++t) {
    const PanelToken token(args.panel, args.tokens, args.width, t);
    const float* src = args.src + t * args.src_stride;
    for (size_t g = 0; g < args.width / kGroup; ++g) quantize_group(src + g * kGroup, token, g);
  }
}

}  // namespace outrigger
