// ProductWork: what a product reads and multiplies, by the kinds that take their own time.
#ifndef OUTRIGGER_SRC_PLAN_PRODUCT_WORK_H_
#define OUTRIGGER_SRC_PLAN_PRODUCT_WORK_H_

#include <outrigger/step_shape.h>

#include <cstdint>

namespace outrigger {

struct ProductWork {
  struct Part {
    double bytes = 0;        ///< packed
    double ready_bytes = 0;  ///< of these, of weights that need no packing when they stream
    double weights = 0;

    void add(const Part& other, double times) {
      bytes += times * other.bytes, ready_bytes += times * other.ready_bytes, weights += times * other.weights;
    }
  };

  Part int8, float32, bf16;  ///< by what they are multiplied with
  double int8_again = 0;     ///< weights of int8 that are multiplied a second time

  double bytes() const { return int8.bytes + float32.bytes + bf16.bytes; }
  double weights() const { return int8.weights + int8_again + float32.weights + bf16.weights; }
  ProductWork& operator+=(const ProductWork& other) { return add(other, 1); }
  ProductWork& operator-=(const ProductWork& other) { return add(other, -1); }

 private:
  ProductWork& add(const ProductWork& other, double times) {
    int8.add(other.int8, times), float32.add(other.float32, times), bf16.add(other.bf16, times);
    int8_again += times * other.int8_again;
    return *this;
  }
};

/// Of `rows` rows of a matrix, or of one expert of a stack, which are so many packed bytes. Of a branch its used share.
inline ProductWork product_work(const MatrixShape& matrix, uint64_t rows, uint64_t packed_bytes) {
  ProductWork work;
  const double share = matrix.used_share;
  ProductWork::Part& part = matrix.product == ProductKind::kFloat32 ? work.float32
                            : matrix.product == ProductKind::kBf16  ? work.bf16
                                                                    : work.int8;
  part.bytes = share * static_cast<double>(packed_bytes);
  part.ready_bytes = matrix.is_packed ? part.bytes : 0;
  part.weights = share * static_cast<double>(rows) * static_cast<double>(matrix.columns);
  if (matrix.product == ProductKind::kInt8Twice) work.int8_again = part.weights;
  return work;
}

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_PLAN_PRODUCT_WORK_H_
