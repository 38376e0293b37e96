// Matrix product with float weights for AVX-512.
#include "src/kernels/avx512.h"
#include "src/kernels/matmul_dense.h"
#include "src/kernels/matmul_store_avx512.h"

namespace outrigger {
namespace {

// sums[t] = fma(16 rows' weights of one k, activation, sums[t]).
template <int kTokens>
inline __attribute__((always_inline)) void add_k(__m512 weights, const float* src, size_t stride, __m512 (&sums)[kTokens]) {
  OTR_UNROLLED(kTokens, t, { sums[t] = _mm512_fmadd_ps(weights, _mm512_set1_ps(src[t * stride]), sums[t]); });
}

template <PackedKind kKind>
inline __m512 load_elements(const std::byte* block, size_t k) {
  if constexpr (kKind == PackedKind::kF32) return _mm512_loadu_ps(block + k * 64);
  if constexpr (kKind == PackedKind::kF16) return load_halves(block + k * 32);
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(block + k * 32));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

template <PackedKind kKind, int kTokens>
void run_tile(const MatmulTile& tile, const MatmulArgs& args) {
  __m512 sums[kTokens];
  OTR_UNROLLED(kTokens, t, { sums[t] = _mm512_setzero_ps(); });
  for (size_t k = 0; k < args.columns; ++k) {
    add_k<kTokens>(load_elements<kKind>(tile.block, k), tile.src + k, args.src_stride, sums);
  }
  store_sums<kTokens>(sums, tile, args.dst_stride, args.accumulate);
}

template <PackedKind kKind>
void run_kind(const MatmulArgs& args, size_t block_begin, size_t block_end) {
  using Run = void (*)(const MatmulTile&, const MatmulArgs&);
  static constexpr Run kRuns[kTokenTile] = {run_tile<kKind, 1>, run_tile<kKind, 2>, run_tile<kKind, 3>, run_tile<kKind, 4>,
                                            run_tile<kKind, 5>, run_tile<kKind, 6>, run_tile<kKind, 7>, run_tile<kKind, 8>};
  for_each_tile(args, block_begin, block_end, [&](const MatmulTile& tile, size_t tokens) { kRuns[tokens - 1](tile, args); });
}

}  // namespace

void matmul_dense_avx512(const MatmulArgs& args, size_t block_begin, size_t block_end) {
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
