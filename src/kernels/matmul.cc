// Matrix product: runs the version for the level in use.
#include "src/kernels/matmul.h"

#include "src/kernels/dispatch.h"

namespace outrigger {

void matmul(const MatmulArgs& args, size_t block_begin, size_t block_end) { OTR_VERSION(matmul)(args, block_begin, block_end); }

}  // namespace outrigger
