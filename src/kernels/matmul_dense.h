// The matrix product of float weights (is_dense), which matmul_ref(), matmul_avx2() and matmul_avx512() hand on to. matmul.h has the
// formulas.
#ifndef OUTRIGGER_SRC_KERNELS_MATMUL_DENSE_H_
#define OUTRIGGER_SRC_KERNELS_MATMUL_DENSE_H_

#include "src/kernels/matmul.h"

namespace outrigger {

/// Even and odd k are summed apart. One chain of additions in order of k would be bound by their latency; four of them would fill all
/// registers with the sums of so few tokens that loading and converting weights would bound the rest.
inline constexpr size_t kDenseChains = 2;

void matmul_dense_ref(const MatmulArgs& args, size_t block_begin, size_t block_end);     ///< the definition
void matmul_dense_avx2(const MatmulArgs& args, size_t block_begin, size_t block_end);    ///< needs SimdLevel::kAvx2
void matmul_dense_avx512(const MatmulArgs& args, size_t block_begin, size_t block_end);  ///< needs SimdLevel::kAvx512

/// kBF16 with a panel, by the processor's dot product of bf16 pairs; needs has_bf16_dot(). matmul_dense_avx512() calls it where it can.
void matmul_bf16_dot(const MatmulArgs& args, size_t block_begin, size_t block_end);
/// The same, with the same bits, without that instruction.
void matmul_bf16_avx512(const MatmulArgs& args, size_t block_begin, size_t block_end);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_MATMUL_DENSE_H_
