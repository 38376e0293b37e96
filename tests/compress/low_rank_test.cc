// LowRank: against the optimum by Eigen's full decompositions, in float64.
#include "src/compress/low_rank.h"

#include <Eigen/Dense>
#include <cmath>
#include <limits>

#include "src/compress/factor_codes.h"
#include "src/tensor/dequantize.h"
#include "tests/support/catch.h"
#include "tests/support/random_inputs.h"

namespace outrigger {
namespace {

using Matrix = Eigen::MatrixXd;
using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

Matrix decoded(DType type, std::span<const std::byte> bytes, size_t rows, size_t columns) {
  std::vector<float> values(rows * columns);
  REQUIRE(dequantize(type, bytes.data(), values.data(), values.size()).is_ok());
  return Eigen::Map<const RowMajor>(values.data(), static_cast<Eigen::Index>(rows), static_cast<Eigen::Index>(columns)).cast<double>();
}

struct Case {
  size_t rows, columns;
  std::vector<float> residual;
  Gram gram;
  Matrix lost, damped;

  Case(size_t row_count, size_t column_count, unsigned seed)
      : rows(row_count), columns(column_count), residual(random_matrix(row_count, column_count, seed, 0.02f)), gram(column_count) {
    const auto team = std::move(ThreadTeam::create(1)).value();
    gram.add(dependent_inputs(3 * columns, columns, seed), *team);
    const auto d = static_cast<Eigen::Index>(columns);
    lost = Eigen::Map<const RowMajor>(residual.data(), static_cast<Eigen::Index>(rows), d).cast<double>();
    damped.resize(d, d);
    for (Eigen::Index i = 0; i < d; ++i) {
      for (Eigen::Index j = 0; j < d; ++j) {
        damped(i, j) = gram.mean(static_cast<size_t>(i), static_cast<size_t>(j)) + (i == j ? kDamping * gram.mean_diagonal() : 0);
      }
    }
  }

  Result<LowRankBranch> made_with(uint32_t rank, int bits, bool weighs, uint32_t threads) const {
    const auto team = std::move(ThreadTeam::create(threads)).value();
    const Result<InputRoot> root = InputRoot::create(gram, kDamping);
    if (!root.is_ok()) return root.status();
    return low_rank_branch(residual, rows, columns, root.value(), {rank, bits, weighs}, *team);
  }
  LowRankBranch branch(uint32_t rank, int bits, bool weighs = true) const {
    auto made = made_with(rank, bits, weighs, 1);
    REQUIRE(made.is_ok());
    return std::move(made).value();
  }
  double loss(const Matrix& left) const { return (left * damped * left.transpose()).trace(); }
  // Of the branch's first components.
  double loss(const LowRankBranch& branch, uint32_t rank) const {
    const Matrix a = decoded(branch.type, branch.a, branch.rank, columns), b = decoded(branch.type, branch.b, rows, branch.rank);
    return loss(lost - b.leftCols(rank) * a.topRows(rank));
  }
  // Of the best correction of a rank: what is left of the spectrum.
  double best_loss(uint32_t rank) const {
    const Eigen::SelfAdjointEigenSolver<Matrix> solver(lost * damped * lost.transpose());
    return solver.eigenvalues().head(static_cast<Eigen::Index>(rows - rank)).sum();
  }
};

TEST_CASE("LowRank: with 8 bits the loss is that of the best correction of its rank, and so is that of a prefix") {
  for (const auto& [rows, columns] : {std::pair<size_t, size_t>{96, 160}, {200, 96}, {64, 64}}) {
    CAPTURE(rows, columns);
    const Case c(rows, columns, 3);
    const LowRankBranch branch = c.branch(64, 8);
    CHECK(branch.residual_loss == Approx(c.loss(c.lost)));
    CHECK(branch.remaining_loss == Approx(c.loss(branch, 64)).epsilon(1e-4));
    CHECK(c.loss(branch, 64) < c.best_loss(64) + 0.003 * branch.residual_loss);
    CHECK(c.loss(branch, 32) < c.best_loss(32) + 0.006 * branch.residual_loss);
    double restored = 0;
    for (const double worth : branch.worth) restored += worth;
    CHECK(branch.residual_loss - restored == Approx(c.best_loss(64)).margin(0.002 * branch.residual_loss));
    CHECK(std::is_sorted(branch.worth.rbegin(), branch.worth.rend()));
  }
}

TEST_CASE("LowRank: with 4 bits little is lost") {
  const Case c(192, 256, 5);
  const double all = c.loss(c.lost), exact = c.best_loss(32);
  CHECK(c.loss(c.branch(32, 4), 32) < exact + 0.03 * all);
  CHECK(c.loss(c.branch(32, 4), 32) > exact + 0.001 * all);
}

TEST_CASE("LowRank: plain singular vectors are the best for the weights, and worse for what they make of the inputs") {
  const Case c(128, 192, 7);
  const LowRankBranch plain = c.branch(32, 8, false), weighed = c.branch(32, 8);
  CHECK(c.loss(weighed, 32) < 0.97 * c.loss(plain, 32));
  const auto distance = [&](const LowRankBranch& branch) {
    return (c.lost - decoded(branch.type, branch.b, c.rows, 32) * decoded(branch.type, branch.a, 32, c.columns)).squaredNorm();
  };
  CHECK(distance(plain) < distance(weighed));
  const Eigen::JacobiSVD<Matrix> svd(c.lost);
  CHECK(distance(plain) < svd.singularValues().tail(128 - 32).squaredNorm() * 1.005);
}

TEST_CASE("LowRank: the same arguments give the same bytes, whatever the number of threads") {
  const Case c(96, 128, 9);
  const LowRankBranch one = c.branch(32, 4), other = c.made_with(32, 4, true, 3).value();
  CHECK(one.a == other.a);
  CHECK(one.b == other.b);
}

TEST_CASE("LowRank: the branch's values are the product of its factors, and rank 0 is none") {
  const Case c(64, 96, 4);
  const LowRankBranch branch = c.branch(32, 4), none = c.branch(0, 4);
  const auto team = std::move(ThreadTeam::create(2)).value();
  const LeasedVector<float> values = branch_values(branch, *team);
  const Matrix expected = decoded(branch.type, branch.b, 64, 32) * decoded(branch.type, branch.a, 32, 96);
  CHECK((Eigen::Map<const RowMajor>(values.data(), 64, 96).cast<double>() - expected).cwiseAbs().maxCoeff() < 1e-6);
  CHECK(none.a.empty());
  CHECK(none.b.empty());
  CHECK(none.residual_loss == Approx(branch.residual_loss));
  CHECK(none.remaining_loss == none.residual_loss);
}

TEST_CASE("LowRank: other factors are rounded like its own, and those that are no numbers refused") {
  const Case c(96, 128, 11);
  LowRankBranch branch = c.branch(32, 4);
  const std::vector<float> a = random_matrix(32, 128, 21), b = random_matrix(96, 32, 22);
  REQUIRE(set_factors(a, b, &branch).is_ok());
  CHECK(branch.a == encode_factors(a, 128, 4, branch.importance));
  CHECK(branch.b == encode_factors(b, 32, 4, {}));
  std::vector<float> spoilt = a;
  spoilt[7] = std::numeric_limits<float>::quiet_NaN();
  CHECK(set_factors(spoilt, b, &branch).code() == StatusCode::kInvalidArgument);
}

TEST_CASE("LowRank: the root of inputs in groups of columns weighs each group by its own") {
  constexpr size_t kWidth = 96, kGroup = 64, kRows = 5;
  const auto team = std::move(ThreadTeam::create(2)).value();
  const std::vector<float> x = dependent_inputs(300, kWidth, 2), values = random_matrix(kRows, kWidth, 3);
  const auto slice = [](const std::vector<float>& all, size_t first, size_t count) {
    std::vector<float> some;
    for (size_t row = 0; row < all.size(); row += kWidth) some.insert(some.end(), &all[row + first], &all[row + first] + count);
    return some;
  };
  Gram grouped(kWidth, kGroup);
  grouped.add(x, *team);
  const InputRoot root = std::move(InputRoot::create(grouped, 0)).value();
  CHECK(root.width() == kWidth);
  const LeasedVector<float> weighed = root.weigh(values, *team);
  for (const auto& [first, count] : {std::pair<size_t, size_t>{0, kGroup}, {kGroup, kWidth - kGroup}}) {
    Gram own(count);
    own.add(slice(x, first, count), *team);
    const LeasedVector<float> expected = std::move(InputRoot::create(own, 0)).value().weigh(slice(values, first, count), *team);
    for (size_t row = 0; row < kRows; ++row) {
      for (size_t i = 0; i < count; ++i) REQUIRE(weighed[row * kWidth + first + i] == Approx(expected[row * count + i]).margin(1e-6));
    }
  }
}

TEST_CASE("LowRank: a residual of zeros has a branch of zeros, and what cannot be is refused") {
  Case c(64, 96, 1);
  const auto code = [&](uint32_t rank, int bits) { return c.made_with(rank, bits, true, 1).status().code(); };
  CHECK(code(32, 8) == StatusCode::kOk);
  CHECK(code(16, 8) == StatusCode::kInvalidArgument);
  CHECK(code(96, 8) == StatusCode::kInvalidArgument);
  CHECK(code(32, 6) == StatusCode::kInvalidArgument);
  CHECK(InputRoot::create(Gram(96), kDamping).status().code() == StatusCode::kInvalidArgument);
  std::fill(c.residual.begin(), c.residual.end(), 0.0f);
  const LowRankBranch nothing = c.branch(32, 8);
  CHECK(decoded(nothing.type, nothing.a, 32, 96).isZero());
  c.residual[5] = std::numeric_limits<float>::infinity();
  CHECK(code(32, 8) == StatusCode::kInvalidArgument);
}

TEST_CASE("Factor codes: each block's error is that of its bits, and columns that weigh more are nearer") {
  const std::vector<float> values = random_matrix(40, 96, 2);
  for (const int bits : {4, 8}) {
    CAPTURE(bits);
    const LeasedVector<std::byte> bytes = encode_factors(values, 96, bits, {});
    std::vector<float> got(values.size());
    REQUIRE(dequantize(factor_type(bits), bytes.data(), got.data(), got.size()).is_ok());
    double error = 0, size = 0;
    for (size_t i = 0; i < got.size(); ++i) error += std::pow(got[i] - values[i], 2), size += std::pow(values[i], 2);
    CHECK(std::sqrt(error / size) < (bits == 8 ? 0.007 : 0.1));
    CHECK(std::sqrt(error / size) > (bits == 8 ? 0.003 : 0.05));
  }
  std::vector<float> weights(96, 1e-3f), got(values.size());
  for (size_t i = 0; i < 96; i += 32) weights[i + 3] = 1;
  const auto error_of_third = [&](std::span<const float> column_weights) {
    const LeasedVector<std::byte> bytes = encode_factors(values, 96, 4, column_weights);
    REQUIRE(dequantize(DType::kQ4_0, bytes.data(), got.data(), got.size()).is_ok());
    double error = 0;
    for (size_t i = 3; i < got.size(); i += 32) error += std::pow(got[i] - values[i], 2);
    return error;
  };
  CHECK(error_of_third(weights) < 0.7 * error_of_third({}));
}

}  // namespace
}  // namespace outrigger
