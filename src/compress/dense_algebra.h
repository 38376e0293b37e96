// Dense algebra on leased memory: what low-rank fits take of it.
#ifndef OUTRIGGER_SRC_COMPRESS_DENSE_ALGEBRA_H_
#define OUTRIGGER_SRC_COMPRESS_DENSE_ALGEBRA_H_

#include <Eigen/Core>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "src/base/thread_team.h"
#include "src/forward/packed_matrix.h"
#include "src/memory/leased_vector.h"

namespace outrigger {

using MatrixView = Eigen::Map<Eigen::MatrixXd>;
using MatrixRef = Eigen::Ref<Eigen::MatrixXd>;

/// Column-major, for Eigen, whose own matrices would not be leases: what it decomposes it does in place.
class Doubles {
 public:
  Doubles(size_t rows, size_t columns) : rows_(rows), columns_(columns), values_(rows * columns) {}

  MatrixView view() { return MatrixView(values_.data(), static_cast<Eigen::Index>(rows_), static_cast<Eigen::Index>(columns_)); }

 private:
  size_t rows_, columns_;
  LeasedVector<double> values_;
};

/// Row-major. Products are the kernels', in float32; what is small, or must be orthogonal, is Eigen's in float64.
struct Floats {
  using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

  size_t rows = 0, columns = 0;
  LeasedVector<float> values;

  Floats(size_t row_count, size_t column_count) : rows(row_count), columns(column_count), values(row_count * column_count) {}
  Floats(size_t row_count, size_t column_count, LeasedVector<float> all) : rows(row_count), columns(column_count), values(std::move(all)) {}
  template <typename Derived>
  explicit Floats(const Eigen::MatrixBase<Derived>& matrix)
      : Floats(static_cast<size_t>(matrix.rows()), static_cast<size_t>(matrix.cols())) {
    Eigen::Map<RowMajor>(values.data(), matrix.rows(), matrix.cols()) = matrix.template cast<float>();
  }
  Doubles in_double() const {
    Doubles doubles(rows, columns);
    doubles.view() =
        Eigen::Map<const RowMajor>(values.data(), static_cast<Eigen::Index>(rows), static_cast<Eigen::Index>(columns)).cast<double>();
    return doubles;
  }

  Floats transposed() const {
    Floats result(columns, rows);
    for (size_t i = 0; i < rows; ++i) {
      for (size_t j = 0; j < columns; ++j) result.values[j * rows + i] = values[i * columns + j];
    }
    return result;
  }
  double square() const {
    double sum = 0;
    for (const float value : values) sum += double{value} * value;
    return sum;
  }
};

/// Bytes that Eigen takes by itself while it decomposes a matrix of so many rows, or solves with one: panels of 128 columns that it copies,
/// of both sides of a product.
uint64_t panel_bytes(size_t rows);

/// left [m, k] times the transpose of `right` [right_rows, k]. All calls may throw std::bad_alloc.
Floats times(const Floats& left, const PackedMatrix& right, size_t right_rows, ThreadTeam& team);
Floats times_transposed(const Floats& left, const Floats& right, ThreadTeam& team);

/// The solution X of `square` X = `right`, least squares' normal equations. A component that rounding made zero is one without effect.
Floats solved(const Floats& square, const Floats& right);

struct LeadingVectors {
  Floats vectors;              ///< [rank, rows of the matrix], orthonormal, in order of worth
  std::vector<double> values;  ///< [rank]: squared singular values, falling
};
/// The left singular vectors of the `rank` largest singular values, by iteration from directions that are the same each time: what is
/// caught of the energy is within a thousandth of the best, though residuals' spectra fall slowly.
LeadingVectors leading_left_vectors(const Floats& matrix, size_t rank, ThreadTeam& team);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_COMPRESS_DENSE_ALGEBRA_H_
