// Matrix product with int8 activations for AVX2, which multiplies unsigned with signed bytes into saturating sums of two.
#include "src/kernels/matmul_avx2.h"

namespace outrigger {
namespace {

// Tokens a loop takes at once. More share each decoding of the weights among themselves, but 16 registers do not hold their sums as well:
// 2 give 185 Gop/s and 4 give 165 at 3.5 GHz.
constexpr size_t kLoopTokens = 2;

// dots[t] = the exact dot products of 8 rows' codes (quads 64 bytes apart) with each token's, zero point taken off.
//
// 4 bits: a pair is at most 2 * 15 * 127 = 3810 in magnitude, so all 8 pairs of a group fit 16 bits: 30480.
template <PackedKind kKind, int kTokens>
inline __attribute__((always_inline)) void dot_nibbles(const std::byte* codes, const std::byte* quads, const std::byte* negative_sums,
                                                       __m256i (&dots)[kTokens]) {
  const __m256i low = _mm256_set1_epi8(15);
  OTR_UNROLLED(kTokens, t, { dots[t] = _mm256_setzero_si256(); });
  OTR_UNROLLED(4, q, {
    const __m256i both = load_bytes(codes + q * 64);
    const __m256i first = _mm256_and_si256(both, low), second = _mm256_and_si256(_mm256_srli_epi16(both, 4), low);
    OTR_UNROLLED(kTokens, t, {
      const std::byte* token = quads + t * kGroup;
      dots[t] = _mm256_add_epi16(dots[t], _mm256_maddubs_epi16(first, _mm256_set1_epi32(load_int(token + q * 4))));
      dots[t] = _mm256_add_epi16(dots[t], _mm256_maddubs_epi16(second, _mm256_set1_epi32(load_int(token + (q + 4) * 4))));
    });
  });
  OTR_UNROLLED(kTokens, t, {
    dots[t] = _mm256_madd_epi16(dots[t], _mm256_set1_epi16(1));
    if constexpr (kKind == PackedKind::kQ4_0) {
      dots[t] = _mm256_add_epi32(dots[t], _mm256_slli_epi32(_mm256_set1_epi32(load_int(negative_sums + t * 4)), 3));
    }
  });
}

// 8 bits: a pair of code + 128 would be up to 2 * 255 * 127 and saturate. So the weight's sign moves to the activation: |code| <= 128, and
// a pair is at most 2 * 128 * 127 = 32512, just below the limit; the next addition has to be in 32 bits.
template <int kTokens>
inline __attribute__((always_inline)) void dot_bytes(const std::byte* codes, const std::byte* quads, __m256i (&dots)[kTokens]) {
  OTR_UNROLLED(kTokens, t, { dots[t] = _mm256_setzero_si256(); });
  OTR_UNROLLED(8, q, {
    const __m256i code = _mm256_xor_si256(load_bytes(codes + q * 64), _mm256_set1_epi8(-128));
    const __m256i magnitude = _mm256_abs_epi8(code);
    OTR_UNROLLED(kTokens, t, {
      const __m256i signed_token = _mm256_sign_epi8(_mm256_set1_epi32(load_int(quads + t * kGroup + q * 4)), code);
      dots[t] = _mm256_add_epi32(dots[t], _mm256_madd_epi16(_mm256_maddubs_epi16(magnitude, signed_token), _mm256_set1_epi16(1)));
    });
  });
}

// One group of k: 16 rows by kTokens tokens, of which `words` holds scales, scaled and negative sums, each `word_stride` bytes long.
template <PackedKind kKind, int kTokens>
inline __attribute__((always_inline)) void add_group(const std::byte* scales, const std::byte* codes, const std::byte* quads,
                                                     const std::byte* words, size_t word_stride, __m256 (&sums)[kHalves][kTokens]) {
  OTR_UNROLLED(kHalves, h, {
    // Both halves use the same activations: without this gcc keeps the 8 x kTokens broadcast ones of the first half for the second, which
    // takes far more registers than there are. Loading them again costs nothing.
    asm volatile("" ::: "memory");
    __m256i dots[kTokens];
    if constexpr (kKind == PackedKind::kQ8_0) {
      dot_bytes<kTokens>(codes + h * 32, quads, dots);
    } else {
      dot_nibbles<kKind, kTokens>(codes + h * 32, quads, words + 2 * word_stride, dots);
    }
    const __m256 scale = load_halves(scales + h * 16);
    OTR_UNROLLED(kTokens, t, {
      const __m256 both_scales = _mm256_mul_ps(scale, _mm256_set1_ps(load_float(words + t * 4)));
      sums[h][t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots[t]), both_scales, sums[h][t]);
      if constexpr (kKind == PackedKind::kQ4_1) {
        sums[h][t] =
            _mm256_fmadd_ps(load_halves(scales + 32 + h * 16), _mm256_set1_ps(load_float(words + word_stride + t * 4)), sums[h][t]);
      }
    });
  });
}

// Tokens [first, first + kTokens) of a tile of `tile_tokens`.
template <PackedKind kKind, int kTokens>
void run_part(const MatmulTile& tile, const MatmulArgs& args, size_t first, size_t tile_tokens) {
  constexpr size_t kCodeBytes = kKind == PackedKind::kQ8_0 ? 512 : 256;
  constexpr size_t kPairBytes = kKind == PackedKind::kQ4_1 ? 640 : 64 + 2 * kCodeBytes;
  __m256 sums[kHalves][kTokens];
  OTR_UNROLLED(kHalves, h, { OTR_UNROLLED(kTokens, t, { sums[h][t] = _mm256_setzero_ps(); }); });
  const std::byte* record = tile.panel;
  for (size_t g = 0; g < args.columns / kGroup; ++g, record += tile_tokens * kTokenGroupBytes) {
    const std::byte* pair = tile.block + g / 2 * kPairBytes;
    const std::byte* scales = pair + g % 2 * (kKind == PackedKind::kQ4_1 ? 320 : 32);
    const std::byte* codes = kKind == PackedKind::kQ4_1 ? scales + 64 : pair + 64 + g % 2 * kCodeBytes;
    add_group<kKind, kTokens>(scales, codes, record + first * kGroup, record + tile_tokens * kGroup + first * 4, tile_tokens * 4, sums);
  }
  store_sums<kTokens>(sums, tile, first, args.dst_stride, args.accumulate);
}

template <PackedKind kKind>
void run_kind(const MatmulArgs& args, size_t block_begin, size_t block_end) {
  using Run = void (*)(const MatmulTile&, const MatmulArgs&, size_t, size_t);
  static constexpr Run kRuns[kLoopTokens] = {run_part<kKind, 1>, run_part<kKind, 2>};
  for_each_tile(args, block_begin, block_end, [&](const MatmulTile& tile, size_t tokens) {
    for (size_t first = 0; first < tokens; first += kLoopTokens) {
      const size_t left = tokens - first;
      kRuns[(left < kLoopTokens ? left : kLoopTokens) - 1](tile, args, first, tokens);
    }
  });
}

}  // namespace

void matmul_int8_avx2(const MatmulArgs& args, size_t block_begin, size_t block_end) {
  switch (args.kind) {
    case PackedKind::kQ8_0:
      return run_kind<PackedKind::kQ8_0>(args, block_begin, block_end);
    case PackedKind::kQ4_0:
      return run_kind<PackedKind::kQ4_0>(args, block_begin, block_end);
    case PackedKind::kQ4_1:
      return run_kind<PackedKind::kQ4_1>(args, block_begin, block_end);
    case PackedKind::kF32:
    case PackedKind::kF16:
    case PackedKind::kBF16:
      break;  // have no int8 path: a precondition
  }
}

}  // namespace outrigger
