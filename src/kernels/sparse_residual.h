// Sparse residual: of what a low-bit matrix lost, each token reads only the columns that matter to it.
#ifndef OUTRIGGER_SRC_KERNELS_SPARSE_RESIDUAL_H_
#define OUTRIGGER_SRC_KERNELS_SPARSE_RESIDUAL_H_

#include <cstddef>
#include <cstdint>

#include "src/tensor/dtype.h"

namespace outrigger {

/// Rows that share a scale in a column: row ranges are multiples of it.
inline constexpr size_t kResidualGroup = 32;

/// Writes the indices i, ascending, of the columns with |x[i]| * norms[i] > threshold, and returns their number.
/// `chosen` has room for `columns` indices; what lies behind the returned ones may be overwritten. A worth that is a NaN is not above any
/// threshold: a NaN in x reaches dst through the backbone. Nothing is above +infinity; below zero, everything but NaNs is chosen. Any
/// thread. Allocates nothing. The same indices at every instruction level (subnormals aside: a thread team flushes them to zero); they
/// depend on this token alone. Cost: about 0.15 ns a column with AVX-512.
size_t choose_columns(const float* x, const float* norms, size_t columns, float threshold, uint32_t* chosen);

/// What a correction reads and writes. Nothing is owned; dst overlaps nothing else.
struct SparseResidualArgs {
  DType type;                ///< kQ4_0 or kIQ4_NL
  /// Transposed, [columns, rows] in the file's layout of `type`: a column is rows / 32 * 18 bytes in a row; any alignment
  const std::byte* residual;
  size_t rows;               ///< a multiple of 32
  const float* src;          ///< [tokens, columns], rows src_stride floats apart: what choose_columns() was given
  size_t src_stride;
  const uint32_t* chosen;    ///< [tokens][chosen_stride]: choose_columns() of each token
  size_t chosen_stride;
  const size_t* counts;      ///< [tokens]: how many were chosen
  float* dst;                ///< dst[t * dst_stride + r]
  size_t dst_stride;
  size_t tokens;
  const float* bias = nullptr;  ///< [rows], added to each token's sum; null: none
};

/// dst[t][r] += sum over the chosen columns i of residual[r][i] * src[t][i], for the rows [row_begin, row_end), multiples of 32.
/// With code the value that a row's four bits stand for, -8..7 or IQ4_NL's, and scale the float32 value of its block's:
///     sum = 0; sum = fma(float(code), src[t][i] * scale, sum) for i in the order of `chosen`;
///     dst[t][r] += sum + bias[r]
/// One formula, so the bits are the same at every instruction level (subnormals aside: a thread team flushes them to zero), whatever the
/// tokens in the call and the split of the rows among threads.
///
/// Any thread; threads take disjoint row ranges, best of a few hundred rows, since a column's bytes lie together. Allocates nothing; 12 KiB
/// of stack. Cost, of the bytes of the chosen columns, for each token: from a cache 10 to 11 GB/s a core with AVX-512, 8 with AVX2. From
/// memory 5 to 9 GB/s a core, the more the longer columns are: 80 to 90 % of what a loop reaches that only reads the same columns, and a
/// third of what reading in order reaches, for no hardware foresees where the next column lies. Up to 8 tokens share what comes from
/// memory.
void sparse_residual(const SparseResidualArgs& args, size_t row_begin, size_t row_end);

size_t choose_columns_ref(const float* x, const float* norms, size_t columns, float threshold, uint32_t* chosen);     ///< the definition
/// Needs SimdLevel::kAvx2
size_t choose_columns_avx2(const float* x, const float* norms, size_t columns, float threshold, uint32_t* chosen);
/// Needs SimdLevel::kAvx512
size_t choose_columns_avx512(const float* x, const float* norms, size_t columns, float threshold, uint32_t* chosen);
void sparse_residual_ref(const SparseResidualArgs& args, size_t row_begin, size_t row_end);                           ///< the definition
/// Needs SimdLevel::kAvx2
void sparse_residual_avx2(const SparseResidualArgs& args, size_t row_begin, size_t row_end);
/// Needs SimdLevel::kAvx512
void sparse_residual_avx512(const SparseResidualArgs& args, size_t row_begin, size_t row_end);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_SPARSE_RESIDUAL_H_
