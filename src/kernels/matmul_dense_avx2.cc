// Matrix product with float weights for AVX2.
#include "src/kernels/matmul_avx2.h"
#include "src/kernels/matmul_dense.h"

namespace outrigger {
namespace {

// Tokens a loop takes at once: with 16 rows in two registers, 4 tokens' sums are 8 of the 16 registers.
constexpr size_t kLoopTokens = 4;

// sums[h][t] = fma(8 rows' weights of one k, activation, sums[h][t]).
template <int kTokens>
inline __attribute__((always_inline)) void add_k(__m256 weights, const float* src, size_t stride, __m256 (&sums)[kTokens]) {
  OTR_UNROLLED(kTokens, t, { sums[t] = _mm256_fmadd_ps(weights, _mm256_set1_ps(src[t * stride]), sums[t]); });
}

template <PackedKind kKind>
inline __m256 load_elements(const std::byte* block, size_t k, int half) {
  if constexpr (kKind == PackedKind::kF32) return _mm256_loadu_ps(reinterpret_cast<const float*>(block + k * 64 + half * 32));
  if constexpr (kKind == PackedKind::kF16) return load_halves(block + k * 32 + half * 16);
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(block + k * 32 + half * 16));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

template <PackedKind kKind, int kTokens>
void run_part(const MatmulTile& tile, const MatmulArgs& args, size_t first) {
  __m256 sums[kHalves][kTokens];
  OTR_UNROLLED(kHalves, h, { OTR_UNROLLED(kTokens, t, { sums[h][t] = _mm256_setzero_ps(); }); });
  const float* src = tile.src + first * args.src_stride;
  for (size_t k = 0; k < args.columns; ++k) {
    OTR_UNROLLED(kHalves, h, { add_k<kTokens>(load_elements<kKind>(tile.block, k, h), src + k, args.src_stride, sums[h]); });
  }
  store_sums<kTokens>(sums, tile, first, args.dst_stride, args.accumulate);
}

template <PackedKind kKind>
void run_kind(const MatmulArgs& args, size_t block_begin, size_t block_end) {
  using Run = void (*)(const MatmulTile&, const MatmulArgs&, size_t);
  static constexpr Run kRuns[kLoopTokens] = {run_part<kKind, 1>, run_part<kKind, 2>, run_part<kKind, 3>, run_part<kKind, 4>};
  for_each_tile(args, block_begin, block_end, [&](const MatmulTile& tile, size_t tokens) {
    for (size_t first = 0; first < tokens; first += kLoopTokens) {
      const size_t left = tokens - first;
      kRuns[(left < kLoopTokens ? left : kLoopTokens) - 1](tile, args, first);
    }
  });
}

}  // namespace

void matmul_dense_avx2(const MatmulArgs& args, size_t block_begin, size_t block_end) {
  switch (args.kind) {
    case PackedKind::kF32:
      return run_kind<PackedKind::kF32>(args, block_begin, block_end);
    case PackedKind::kF16:
      return run_kind<PackedKind::kF16>(args, block_begin, block_end);
    case PackedKind::kBF16:
      return run_kind<PackedKind::kBF16>(args, block_begin, block_end);
    default:
      break;  // is_dense() is a precondition
  }
}

}  // namespace outrigger
