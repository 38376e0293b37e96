// The two halves of the AVX-512 matrix product, which live in files of their own.
#ifndef OUTRIGGER_SRC_KERNELS_MATMUL_AVX512_H_
#define OUTRIGGER_SRC_KERNELS_MATMUL_AVX512_H_

#include "src/kernels/matmul_tiles.h"

namespace outrigger {

void matmul_int8_avx512(const MatmulArgs& args, size_t block_begin, size_t block_end);   ///< args.panel is given
void matmul_float_avx512(const MatmulArgs& args, size_t block_begin, size_t block_end);  ///< args.panel is null

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_MATMUL_AVX512_H_
