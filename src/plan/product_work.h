// ProductWork: what a product reads and multiplies, by the kinds that take their own time.
#ifndef OUTRIGGER_SRC_PLAN_PRODUCT_WORK_H_
#define OUTRIGGER_SRC_PLAN_PRODUCT_WORK_H_

#include <outrigger/step_shape.h>

#include <cstdint>

namespace outrigger {

struct ProductWork {
  double bytes = 0;                        ///< packed
  double float_bytes = 0, ready_bytes = 0; ///< of these, of float weights that need packing when they stream; of weights that need none
  double int8 = 0, float32 = 0, bf16 = 0;  ///< weights by ProductKind; those that are multiplied twice count twice

  double weights() const { return int8 + float32 + bf16; }
  ProductWork& operator+=(const ProductWork& other) { return add(other, 1); }
  ProductWork& operator-=(const ProductWork& other) { return add(other, -1); }

 private:
  ProductWork& add(const ProductWork& other, double times) {
    bytes += times * other.bytes, float_bytes += times * other.float_bytes, ready_bytes += times * other.ready_bytes;
    int8 += times * other.int8, float32 += times * other.float32, bf16 += times * other.bf16;
    return *this;
  }
};

/// Of `rows` rows of a matrix, or of one expert of a stack, which are so many packed bytes.
inline ProductWork product_work(const MatrixShape& matrix, uint64_t rows, uint64_t packed_bytes) {
  ProductWork work;
  work.bytes = static_cast<double>(packed_bytes);
  const bool is_float = matrix.product == ProductKind::kFloat32 || matrix.product == ProductKind::kBf16;
  if (matrix.is_packed) {
    work.ready_bytes = work.bytes;
  } else if (is_float) {
    work.float_bytes = work.bytes;
  }
  const double weights = static_cast<double>(rows) * static_cast<double>(matrix.columns);
  if (matrix.product == ProductKind::kBf16) {
    work.bf16 = weights;
  } else if (is_float) {
    work.float32 = weights;
  } else {
    work.int8 = matrix.product == ProductKind::kInt8Twice ? 2 * weights : weights;
  }
  return work;
}

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_PLAN_PRODUCT_WORK_H_
