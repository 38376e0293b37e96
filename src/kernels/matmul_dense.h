// The matrix product of float weights (is_dense), which the versions in matmul_*.cc hand on to.
#ifndef OUTRIGGER_SRC_KERNELS_MATMUL_DENSE_H_
#define OUTRIGGER_SRC_KERNELS_MATMUL_DENSE_H_

#include "src/kernels/matmul.h"

namespace outrigger {

void matmul_dense_ref(const MatmulArgs& args, size_t block_begin, size_t block_end);     ///< the definition
void matmul_dense_avx2(const MatmulArgs& args, size_t block_begin, size_t block_end);    ///< needs SimdLevel::kAvx2
void matmul_dense_avx512(const MatmulArgs& args, size_t block_begin, size_t block_end);  ///< needs SimdLevel::kAvx512

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_MATMUL_DENSE_H_
