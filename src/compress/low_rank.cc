// LowRank: the leading left singular vectors of the residual times a square root of the inputs' Gram matrix.
#include "src/compress/low_rank.h"

#include <fmt/format.h>

#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>
#include <Eigen/QR>
#include <algorithm>
#include <cmath>
#include <limits>
#include <new>
#include <random>

#include "src/base/macros.h"
#include "src/compress/factor_codes.h"
#include "src/tensor/dequantize.h"

namespace outrigger {
namespace {

using Matrix = Eigen::MatrixXd;
using MatrixView = Eigen::Map<Matrix>;
using MatrixRef = Eigen::Ref<Matrix>;

// Directions beyond the rank that are carried along, and rounds. With four the energy that is caught is within a thousandth of the best, though residuals'
// spectra fall slowly.
constexpr size_t kOversampling = 32;
constexpr int kRounds = 4;
// Each factor is fitted to the other as that was rounded, until it no longer helps.
constexpr int kFits = 4;

// Column-major, for Eigen, whose own matrices would not be leases: what it decomposes it does in place.
class Doubles {
 public:
  Doubles(size_t rows, size_t columns) : rows_(rows), columns_(columns), values_(rows * columns) {}

  MatrixView view() { return MatrixView(values_.data(), static_cast<Eigen::Index>(rows_), static_cast<Eigen::Index>(columns_)); }

 private:
  size_t rows_, columns_;
  LeasedVector<double> values_;
};

// Row-major. Products are the kernels', in float32; what is small, or must be orthogonal, is Eigen's in float64.
struct Floats {
  size_t rows = 0, columns = 0;
  LeasedVector<float> values;

  Floats(size_t row_count, size_t column_count) : rows(row_count), columns(column_count), values(row_count * column_count) {}
  Floats(size_t row_count, size_t column_count, LeasedVector<float> all) : rows(row_count), columns(column_count), values(std::move(all)) {}
  template <typename Derived>
  explicit Floats(const Eigen::MatrixBase<Derived>& matrix) : Floats(static_cast<size_t>(matrix.rows()), static_cast<size_t>(matrix.cols())) {
    Eigen::Map<RowMajor>(values.data(), matrix.rows(), matrix.cols()) = matrix.template cast<float>();
  }
  using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  Doubles in_double() const {
    Doubles doubles(rows, columns);
    doubles.view() = Eigen::Map<const RowMajor>(values.data(), static_cast<Eigen::Index>(rows), static_cast<Eigen::Index>(columns)).cast<double>();
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

// `right` is [n, k], packed: left [m, k] times its transpose.
Floats times(const Floats& left, const PackedFloats& right, size_t right_rows, ThreadTeam& team) {
  Floats result(left.rows, right_rows);
  right.multiply(left.values, left.rows, result.values.data(), right_rows, false, team);
  return result;
}

Floats times_transposed(const Floats& left, const Floats& right, ThreadTeam& team) {
  return times(left, PackedFloats(right.values, right.rows, right.columns), right.rows, team);
}

// What Eigen takes by itself while it decomposes a matrix of so many rows, or solves with one: panels of 128 columns that it copies, of both
// sides of a product.
uint64_t panel_bytes(size_t rows) { return 2 * 128 * sizeof(double) * rows; }

// (square + its transpose) / 2
Doubles symmetric(const Floats& square) {
  Doubles given = square.in_double(), result(square.rows, square.rows);
  const MatrixView values = given.view();
  result.view() = (values + values.transpose()) / 2;
  return result;
}

// One round of rows made orthonormal by what their products with each other say; false where they depend on each other too nearly for float32.
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

struct Leading {
  Floats vectors;              // [rank, rows of the matrix], orthonormal, in order of worth
  std::vector<double> values;  // [rank]: squared singular values, falling
};

Leading leading_left_vectors(const Floats& matrix, size_t rank, ThreadTeam& team) {
  const size_t width = std::min({rank + kOversampling, matrix.rows, matrix.columns});
  const PackedFloats straight(matrix.values, matrix.rows, matrix.columns);
  const PackedFloats across(matrix.transposed().values, matrix.columns, matrix.rows);
  Floats basis = orthonormal_rows(times(start_directions(width, matrix.columns), straight, matrix.rows, team), team);
  for (int round = 0; round < kRounds; ++round) {
    basis = orthonormal_rows(times(orthonormal_rows(times(basis, across, matrix.columns, team), team), straight, matrix.rows, team), team);
  }
  const Floats inside = times(basis, across, matrix.columns, team);
  Doubles square = symmetric(times_transposed(inside, inside, team));
  const MemoryClaim vectors = claim_of_heap(width * width * sizeof(double) + panel_bytes(width));  // it has no way to work in place
  const Eigen::SelfAdjointEigenSolver<Matrix> solver(square.view());
  // Its values rise.
  const Floats turn(solver.eigenvectors().rowwise().reverse().leftCols(static_cast<Eigen::Index>(rank)).transpose());
  Leading leading{times_transposed(turn, basis.transposed(), team), {}};
  for (size_t i = 0; i < rank; ++i) leading.values.push_back(std::max(0.0, solver.eigenvalues()(static_cast<Eigen::Index>(width - 1 - i))));
  return leading;
}

// What the codes say.
Floats decoded(DType type, const LeasedVector<std::byte>& bytes, size_t rows, size_t columns) {
  Floats values(rows, columns);
  (void)dequantize(type, bytes.data(), values.values.data(), values.values.size());  // a type that encode_factors made
  return values;
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

bool all_finite(std::span<const float> values) {
  return std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); });
}

}  // namespace

Status LowRankOptions::validate(uint64_t rows, uint64_t columns) const {
  const auto invalid = [](std::string message) { return Status(StatusCode::kInvalidArgument, std::move(message)); };
  if (rank % 32 != 0 || rank > std::min(rows, columns)) {
    return invalid(fmt::format("the rank is {}, need a multiple of 32 up to {}", rank, std::min(rows, columns) / 32 * 32));
  }
  if (factor_bits != 4 && factor_bits != 8) return invalid(fmt::format("factor_bits is {}, need 4 or 8", factor_bits));
  if (columns % 32 != 0) return invalid(fmt::format("rows of {} weights, need a multiple of 32", columns));
  return {};
}

Result<InputRoot> InputRoot::create(const Gram& gram, double damping) try {
  const LeaseScope scope(MemoryUse::kGrams);
  if (gram.tokens() == 0) return Status(StatusCode::kInvalidArgument, "nothing is known of the inputs: no token has passed");
  const double mean = gram.mean_diagonal();
  if (!std::isfinite(mean)) return Status(StatusCode::kInvalidArgument, "the inputs have values that are no numbers");
  LeasedVector<float> importance(gram.width());
  for (size_t i = 0; i < gram.width(); ++i) importance[i] = static_cast<float>(gram.mean(i, i));
  const ColumnGroups& groups = gram.groups();
  const double added = mean > 0 ? damping * mean : 1;
  InputRoot root(std::move(importance), groups);
  for (size_t group = 0; group < groups.count(); ++group) {
    const size_t first = groups.first(group), size = groups.size(group);
    const MemoryClaim panels = claim_of_heap(panel_bytes(size));
    Doubles storage(size, size);
    MatrixView matrix = storage.view();
    for (size_t i = 0; i < size; ++i) {
      for (size_t j = 0; j < size; ++j) {
        matrix(static_cast<Eigen::Index>(i), static_cast<Eigen::Index>(j)) = gram.mean(first + i, first + j) + (i == j ? added : 0);
      }
    }
    const Eigen::LLT<MatrixRef> factor(matrix);
    if (factor.info() != Eigen::Success) return Status(StatusCode::kInvalidArgument, "the inputs' Gram matrix cannot be factorised");
    matrix.triangularView<Eigen::StrictlyUpper>().setZero();
    const Floats transposed(matrix.transpose());
    root.transposed_.emplace_back(transposed.values, size, size);
  }
  return root;
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

LeasedVector<float> InputRoot::weigh(std::span<const float> values, ThreadTeam& team) const {
  LeasedVector<float> weighed(values.size());
  for (size_t group = 0; group < groups_.count(); ++group) {
    const size_t first = groups_.first(group);
    transposed_[group].multiply(values.data() + first, width(), values.size() / width(), weighed.data() + first, width(), false, team);
  }
  return weighed;
}

LeasedVector<float> branch_values(const LowRankBranch& branch, ThreadTeam& team) {
  const Floats a = decoded(branch.type, branch.a, branch.rank, branch.columns), b = decoded(branch.type, branch.b, branch.rows, branch.rank);
  return times_transposed(b, a.transposed(), team).values;
}

Status set_factors(std::span<const float> a, std::span<const float> b, LowRankBranch* branch) try {
  if (!all_finite(a) || !all_finite(b)) return Status(StatusCode::kInvalidArgument, "the factors have values that are no numbers");
  const int bits = branch->type == DType::kQ4_0 ? 4 : 8;
  branch->a = encode_factors(a, branch->columns, bits, branch->importance);
  branch->b = encode_factors(b, branch->rank, bits, {});
  return {};
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

Result<LossSpectrum> loss_spectrum(std::span<const float> residual, uint64_t rows, uint64_t columns, const InputRoot& inputs, uint32_t rank, ThreadTeam& team) try {
  OTR_TRY(LowRankOptions({rank, 8, true}).validate(rows, columns));
  if (!all_finite(residual)) return Status(StatusCode::kInvalidArgument, "the residual has values that are no numbers");
  const Floats outputs(rows, columns, inputs.weigh(residual, team));
  return LossSpectrum{rank == 0 ? std::vector<double>() : leading_left_vectors(outputs, rank, team).values, outputs.square()};
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

Result<LowRankBranch> low_rank_branch(std::span<const float> residual, uint64_t rows, uint64_t columns, const InputRoot& inputs, const LowRankOptions& options,
                                      ThreadTeam& team) try {
  OTR_TRY(options.validate(rows, columns));
  if (!all_finite(residual)) return Status(StatusCode::kInvalidArgument, "the residual has values that are no numbers");
  const Floats lost(rows, columns, LeasedVector<float>(residual.begin(), residual.end()));
  const Floats outputs(rows, columns, inputs.weigh(residual, team));
  LowRankBranch branch{rows, columns, options.rank, factor_type(options.factor_bits), {}, {}, {inputs.importance().begin(), inputs.importance().end()}, {}, outputs.square(), 0};
  branch.remaining_loss = branch.residual_loss;
  if (options.rank == 0) return branch;
  Leading leading = leading_left_vectors(options.weighs_inputs ? outputs : lost, options.rank, team);
  if (!options.weighs_inputs) leading.values.clear();
  for (const double value : leading.values) branch.worth.push_back(value);

  const PackedFloats lost_across(lost.transposed().values, columns, rows), packed_outputs(outputs.values, rows, columns);
  double least = std::numeric_limits<double>::infinity();
  Floats wanted_b = leading.vectors.transposed();
  for (int round = 0; round < (options.weighs_inputs ? kFits : 1); ++round) {
    LeasedVector<std::byte> b_bytes = encode_factors(wanted_b.values, options.rank, options.factor_bits, {});
    const Floats b = decoded(branch.type, b_bytes, rows, options.rank), b_across = b.transposed();
    // The least squares of A given B do not depend on the inputs.
    const Floats wanted_a = solved(times_transposed(b_across, b_across, team), times(b_across, lost_across, columns, team));
    LeasedVector<std::byte> a_bytes = encode_factors(wanted_a.values, columns, options.factor_bits, inputs.importance());
    const Floats a = decoded(branch.type, a_bytes, options.rank, columns);
    const Floats hidden(options.rank, columns, inputs.weigh(a.values, team));
    Floats left = times_transposed(b, hidden.transposed(), team);
    for (size_t i = 0; i < left.values.size(); ++i) left.values[i] -= outputs.values[i];
    const double loss = left.square();
    if (!(loss < least)) break;
    least = loss;
    branch.a = std::move(a_bytes);
    branch.b = std::move(b_bytes);
    branch.remaining_loss = loss;
    wanted_b = solved(times_transposed(hidden, hidden, team), times(hidden, packed_outputs, rows, team)).transposed();
  }
  return branch;
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

}  // namespace outrigger
