// Sparse residual for AVX2.
#include <array>

#include "src/kernels/avx2.h"
#include "src/kernels/sparse_residual.h"
#include "src/kernels/sparse_residual_strips.h"
#include "src/kernels/unroll.h"
#include "src/tensor/codebooks.h"

namespace outrigger {
namespace {

constexpr int8_t kLinearValues[16] = {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7};

struct Columns {
  __m128i values;

  explicit Columns(DType type)
      : values(_mm_loadu_si128(reinterpret_cast<const __m128i*>(type == DType::kIQ4_NL ? kNonLinearValues : kLinearValues))) {}

  template <size_t kColumns>
  void add(const std::byte* const* columns, const float* factors, size_t blocks, float* sums) const {
    const std::byte* column[kColumns];
    OTR_UNROLLED(static_cast<int>(kColumns), c, { column[c] = columns[c] + 2; });
    for (size_t b = 0; b < blocks; ++b, sums += kResidualGroup) {
      __m256 sum[4];
      OTR_UNROLLED(4, i, { sum[i] = _mm256_load_ps(sums + i * 8); });
      OTR_UNROLLED(static_cast<int>(kColumns), c, {
        const __m256 factor = _mm256_broadcast_ss(factors + c * kMostBlocks + b);
        const __m128i codes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(column[c] + b * kBlockBytes)), low = _mm_set1_epi8(15);
        const __m128i first = _mm_shuffle_epi8(values, _mm_and_si128(codes, low));
        const __m128i second = _mm_shuffle_epi8(values, _mm_and_si128(_mm_srli_epi16(codes, 4), low));
        sum[0] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(first)), factor, sum[0]);
        sum[1] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_unpackhi_epi64(first, first))), factor, sum[1]);
        sum[2] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(second)), factor, sum[2]);
        sum[3] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_unpackhi_epi64(second, second))), factor, sum[3]);
      });
      OTR_UNROLLED(4, i, { _mm256_store_ps(sums + i * 8, sum[i]); });
    }
  }
};

// For each set of 8 lanes, which of them come first: 2 KiB.
constexpr auto kFirstLanes = [] {
  std::array<std::array<uint8_t, 8>, 256> table = {};
  for (size_t set = 0; set < 256; ++set) {
    size_t count = 0;
    for (uint8_t lane = 0; lane < 8; ++lane) {
      if (set >> lane & 1) table[set][count++] = lane;
    }
  }
  return table;
}();

}  // namespace

// A whole vector is stored each time: never more indices than columns seen, so it stays inside.
size_t choose_columns_avx2(const float* x, const float* norms, size_t columns, float threshold, uint32_t* chosen) {
  size_t count = 0;
  for (size_t i = 0; i < columns; i += kLanes) {
    const __m256i live = lanes_below(columns - i);
    const __m256 size = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), _mm256_maskload_ps(x + i, live));
    const __m256 above = _mm256_cmp_ps(_mm256_mul_ps(size, _mm256_maskload_ps(norms + i, live)), _mm256_set1_ps(threshold), _CMP_GT_OQ);
    const int set = _mm256_movemask_ps(_mm256_and_ps(above, _mm256_castsi256_ps(live)));
    const void* const first = &kFirstLanes[static_cast<size_t>(set)];
    const __m256i lanes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(first)));
    _mm256_maskstore_epi32(reinterpret_cast<int*>(chosen + count), live, _mm256_add_epi32(lanes, _mm256_set1_epi32(static_cast<int>(i))));
    count += static_cast<size_t>(__builtin_popcount(static_cast<unsigned>(set)));
  }
  return count;
}

void sparse_residual_avx2(const SparseResidualArgs& args, size_t row_begin, size_t row_end) {
  walk_strips(Columns(args.type), args, row_begin, row_end);
}

}  // namespace outrigger
