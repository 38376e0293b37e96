// Adds a bias to the rows that a matrix product has just written.
#ifndef OUTRIGGER_SRC_KERNELS_ADD_BIAS_H_
#define OUTRIGGER_SRC_KERNELS_ADD_BIAS_H_

#include <cstddef>

namespace outrigger {

/// What is added where. Nothing is owned.
struct AddBiasArgs {
  const float* bias;  ///< [rows]
  float* dst;         ///< [tokens, rows], tokens dst_stride floats apart
  size_t dst_stride;
  size_t rows;
  size_t tokens;
};

/// dst[t][r] += bias[r]: one float addition after the product's full sum. Any thread; threads take disjoint rows. Allocates nothing.
/// One version for all instruction levels, since it is one addition beside a product's hundreds of multiplications, and the bits are equal.
void add_bias(const AddBiasArgs& args);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_ADD_BIAS_H_
