// Matrix product for AVX2: which half does it.
#include "src/kernels/matmul_avx2.h"

#include "src/kernels/matmul_dense.h"

namespace outrigger {

void matmul_avx2(const MatmulArgs& args, size_t block_begin, size_t block_end) {
  if (is_dense(args.kind)) return matmul_dense_avx2(args, block_begin, block_end);
  (args.panel ? matmul_int8_avx2 : matmul_float_avx2)(args, block_begin, block_end);
}

}  // namespace outrigger
