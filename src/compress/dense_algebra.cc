// Dense algebra: what is large goes through the kernels in float32, what is small or must be orthogonal through Eigen in float64.
#include "src/compress/dense_algebra.h"

#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>
#include <Eigen/QR>
#include <algorithm>
#include <random>

namespace outrigger {
namespace {

// Directions beyond the rank that are carried along, and rounds. With four the energy that is caught is within a thousandth of the best,
// though residuals' spectra fall slowly.
constexpr size_t kOversampling = 32;
constexpr int kRounds = 4;

// (square + its transpose) / 2
Doubles symmetric(const Floats& square) {
  Doubles given = square.in_double(), result(square.rows, square.rows);
  const MatrixView values = given.view();
  result.view() = (values + values.transpose()) / 2;
  return result;
}

// One round of rows made orthonormal by what their products with each other say; false where they depend on each other too nearly for
// float32.
bool orthonormalise_once(Floats* rows, ThreadTeam& team) {
  const MemoryClaim panels = claim_of_heap(panel_bytes(rows->rows));
  Doubles square = symmetric(times_transposed(*rows, *rows, team));
  MatrixView lower = square.view();  // which the factor takes the place of
  const Eigen::LLT<MatrixRef> factor(lower);
  if (factor.info() != Eigen::Success) return false;
  if (lower.diagonal().minCoeff() < 1e-3 * lower.diagonal().maxCoeff()) return false;
  Doubles inverse(rows->rows, rows->rows);
  MatrixView inverted = inverse.view();
  inverted.setIdentity();
  lower.triangularView<Eigen::Lower>().solveInPlace(inverted);
  *rows = times_transposed(Floats(inverted), rows->transposed(), team);
  return true;
}

// The rows, made orthonormal. Householder's way is slow, and sure.
Floats orthonormal_rows(const Floats& rows, ThreadTeam& team) {
  Floats quick = rows;
  if (orthonormalise_once(&quick, team) && orthonormalise_once(&quick, team)) return quick;
  const MemoryClaim panels = claim_of_heap(panel_bytes(rows.columns));
  Doubles columns = rows.transposed().in_double(), basis(rows.columns, rows.rows);
  MatrixView given = columns.view(), orthonormal = basis.view();
  Eigen::HouseholderQR<MatrixRef> qr(given);
  orthonormal.setIdentity();
  qr.householderQ().applyThisOnTheLeft(orthonormal, rows.columns == rows.rows);
  return Floats(orthonormal.transpose());
}

// Directions that are random but the same each time; std::normal_distribution differs among standard libraries.
Floats start_directions(size_t rows, size_t columns) {
  std::mt19937 random(20260131);
  Floats directions(rows, columns);
  for (float& value : directions.values) value = static_cast<float>(static_cast<double>(random()) / 2147483648.0 - 1);
  return directions;
}

}  // namespace

uint64_t panel_bytes(size_t rows) { return 2 * 128 * sizeof(double) * rows; }

Floats times(const Floats& left, const PackedMatrix& right, size_t right_rows, ThreadTeam& team) {
  Floats result(left.rows, right_rows);
  right.multiply(left.values, left.rows, result.values.data(), right_rows, false, team);
  return result;
}

Floats times_transposed(const Floats& left, const Floats& right, ThreadTeam& team) {
  return times(left, PackedMatrix(right.values, right.rows, right.columns), right.rows, team);
}

// The solution X of `square` X = `right`, least squares' normal equations. A component that rounding made zero is one without effect.
Floats solved(const Floats& square, const Floats& right) {
  const MemoryClaim panels = claim_of_heap(panel_bytes(square.rows));
  Doubles factorised = square.in_double(), solution = right.in_double();
  MatrixView safe = factorised.view(), x = solution.view();
  const double floor = 1e-9 * std::max(safe.diagonal().maxCoeff(), 1e-30);
  safe.diagonal().array() += floor;
  const Eigen::LDLT<MatrixRef> factor(safe);
  factor.solveInPlace(x);
  return Floats(x);
}

LeadingVectors leading_left_vectors(const Floats& matrix, size_t rank, ThreadTeam& team) {
  const size_t width = std::min({rank + kOversampling, matrix.rows, matrix.columns});
  const PackedMatrix straight(matrix.values, matrix.rows, matrix.columns);
  const PackedMatrix across(matrix.transposed().values, matrix.columns, matrix.rows);
  Floats basis = orthonormal_rows(times(start_directions(width, matrix.columns), straight, matrix.rows, team), team);
  for (int round = 0; round < kRounds; ++round) {
    basis = orthonormal_rows(times(orthonormal_rows(times(basis, across, matrix.columns, team), team), straight, matrix.rows, team), team);
  }
  const Floats inside = times(basis, across, matrix.columns, team);
  Doubles square = symmetric(times_transposed(inside, inside, team));
  const MemoryClaim vectors = claim_of_heap(width * width * sizeof(double) + panel_bytes(width));  // it has no way to work in place
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(square.view());
  // Its values rise.
  const Floats turn(solver.eigenvectors().rowwise().reverse().leftCols(static_cast<Eigen::Index>(rank)).transpose());
  LeadingVectors leading{times_transposed(turn, basis.transposed(), team), {}};
  for (size_t i = 0; i < rank; ++i) leading.values.push_back(std::max(0.0, solver.eigenvalues()(static_cast<Eigen::Index>(width - 1 - i))));
  return leading;
}

}  // namespace outrigger
