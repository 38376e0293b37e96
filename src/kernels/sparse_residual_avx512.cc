// Sparse residual for AVX-512.
#include "src/kernels/avx512.h"
#include "src/kernels/sparse_residual.h"
#include "src/kernels/sparse_residual_strips.h"
#include "src/kernels/unroll.h"
#include "src/tensor/codebooks.h"

namespace outrigger {
namespace {

// A block's rows 0-15, and behind them rows 16-31, from bytes that hold a code of each.
struct LinearColumns {
  // The float 2^19 has a last place of 1/16: in it, a byte's high four bits count whole numbers where they are.
  static constexpr float kHigh = 0x1p19f;
  const __m512 values = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);

  __m512 low(__m512i bytes) const { return _mm512_permutexvar_ps(bytes, values); }
  // (bytes & 0xf0) | 2^19 in one instruction, for a shuffle and a shift would wait for the execution units that the other half needs.
  __m512 high(__m512i bytes) const {
    constexpr int kAndOr = 0xea;
    const __m512i placed = _mm512_ternarylogic_epi32(bytes, _mm512_set1_epi32(0xf0), _mm512_castps_si512(_mm512_set1_ps(kHigh)), kAndOr);
    return _mm512_sub_ps(_mm512_castsi512_ps(placed), _mm512_set1_ps(kHigh + 8));
  }
};

// Looking a code up is one instruction, and it ignores the bits above the code's four.
struct CodebookColumns {
  const __m512 values =
      _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(kNonLinearValues))));

  __m512 low(__m512i bytes) const { return _mm512_permutexvar_ps(bytes, values); }
  __m512 high(__m512i bytes) const { return _mm512_permutexvar_ps(_mm512_srli_epi32(bytes, 4), values); }
};

template <typename Codes>
struct Columns : Codes {
  template <size_t kColumns>
  void add(const std::byte* const* columns, const float* factors, size_t blocks, float* sums) const {
    const std::byte* column[kColumns];
    OTR_UNROLLED(static_cast<int>(kColumns), c, { column[c] = columns[c] + 2; });
    for (size_t b = 0; b < blocks; ++b, sums += kResidualGroup) {
      __m512 first = _mm512_load_ps(sums), second = _mm512_load_ps(sums + 16);
      OTR_UNROLLED(static_cast<int>(kColumns), c, {
        const __m512 factor = _mm512_set1_ps(factors[c * kMostBlocks + b]);
        const __m512i bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(column[c] + b * kBlockBytes)));
        first = _mm512_fmadd_ps(this->low(bytes), factor, first);
        second = _mm512_fmadd_ps(this->high(bytes), factor, second);
      });
      _mm512_store_ps(sums, first);
      _mm512_store_ps(sums + 16, second);
    }
  }
};

}  // namespace

// A whole vector is stored each time: never more indices than columns seen, so it stays inside. The instruction that stores only the chosen
// ones is slower by far on some processors.
size_t choose_columns_avx512(const float* x, const float* norms, size_t columns, float threshold, uint32_t* chosen) {
  const __m512 limit = _mm512_set1_ps(threshold);
  __m512i index = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  size_t count = 0;
  for (size_t i = 0; i < columns; i += kLanes) {
    const __mmask16 live = lanes_below(columns - i);
    const __m512 worth = _mm512_mul_ps(_mm512_abs_ps(_mm512_maskz_loadu_ps(live, x + i)), _mm512_maskz_loadu_ps(live, norms + i));
    const __mmask16 above = _mm512_mask_cmp_ps_mask(live, worth, limit, _CMP_GT_OQ);
    _mm512_mask_storeu_epi32(chosen + count, live, _mm512_maskz_compress_epi32(above, index));
    count += static_cast<size_t>(__builtin_popcount(above));
    index = _mm512_add_epi32(index, _mm512_set1_epi32(kLanes));
  }
  return count;
}

void sparse_residual_avx512(const SparseResidualArgs& args, size_t row_begin, size_t row_end) {
  if (args.type == DType::kIQ4_NL) return walk_strips(Columns<CodebookColumns>(), args, row_begin, row_end);
  walk_strips(Columns<LinearColumns>(), args, row_begin, row_end);
}

}  // namespace outrigger
