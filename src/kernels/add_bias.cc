// Adds a bias, row by row.
#include "src/kernels/add_bias.h"

namespace outrigger {

void add_bias(const AddBiasArgs& args) {
  for (size_t t = 0; t < args.tokens; ++t) {
    float* const dst = args.dst + t * args.dst_stride;
    for (size_t r = 0; r < args.rows; ++r) dst[r] += args.bias[r];
  }
}

}  // namespace outrigger
