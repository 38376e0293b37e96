// bf16 activations for AVX2.
#include "src/kernels/avx2.h"
#include "src/kernels/bf16_activations.h"

namespace outrigger {
namespace {

// In the low half of each lane.
inline __m256i round_lanes(__m256i bits) {
  const __m256i magnitude = _mm256_and_si256(bits, _mm256_set1_epi32(0x7fffffff)), top = _mm256_srli_epi32(bits, 16);
  const __m256i half = _mm256_add_epi32(_mm256_set1_epi32(0x7fff), _mm256_and_si256(top, _mm256_set1_epi32(1)));
  const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, half), 16);
  const __m256i is_nan = _mm256_cmpgt_epi32(magnitude, _mm256_set1_epi32(0x7f800000));
  const __m256i is_subnormal = _mm256_cmpgt_epi32(_mm256_set1_epi32(0x00800000), magnitude);
  const __m256i number = _mm256_blendv_epi8(rounded, _mm256_or_si256(top, _mm256_set1_epi32(0x40)), is_nan);
  return _mm256_blendv_epi8(number, _mm256_and_si256(top, _mm256_set1_epi32(0x8000)), is_subnormal);
}

inline __m256i load_live(const float* src, size_t k, size_t width) {
  if (k >= width) return _mm256_setzero_si256();
  return _mm256_castps_si256(_mm256_maskload_ps(src + k, lanes_below(width - k)));
}

}  // namespace

void round_activations_avx2(const Bf16Args& args, size_t token_begin, size_t token_end) {
  const size_t row_bytes = bf16_row_bytes(args.width);
  for (size_t t = token_begin; t < token_end; ++t) {
    const float* const src = args.src + t * args.src_stride;
    std::byte* const row = args.panel + t * row_bytes;
    for (size_t k = 0; k * 2 < row_bytes; k += 2 * kLanes) {
      const __m256i low = round_lanes(load_live(src, k, args.width)), high = round_lanes(load_live(src, k + kLanes, args.width));
      // Packing works within halves of a register, which leaves quarters in the order 0 2 1 3.
      const __m256i mixed = _mm256_packus_epi32(low, high);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(row + k * 2), _mm256_permute4x64_epi64(mixed, 0xd8));
    }
  }
}

}  // namespace outrigger
