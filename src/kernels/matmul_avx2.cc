// Matrix product for AVX2: int8 or float32 activations.
#include "src/kernels/matmul_avx2.h"

namespace outrigger {

void matmul_avx2(const MatmulArgs& args, size_t block_begin, size_t block_end) {
  (args.panel ? matmul_int8_avx2 : matmul_float_avx2)(args, block_begin, block_end);
}

}  // namespace outrigger
