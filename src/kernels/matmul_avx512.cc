// Matrix product for AVX-512: which half does it.
#include "src/kernels/matmul_avx512.h"

#include "src/kernels/matmul_dense.h"

namespace outrigger {

void matmul_avx512(const MatmulArgs& args, size_t block_begin, size_t block_end) {
  if (is_dense(args.kind)) return matmul_dense_avx512(args, block_begin, block_end);
  (args.panel ? matmul_int8_avx512 : matmul_float_avx512)(args, block_begin, block_end);
}

}  // namespace outrigger
