// Gram: against sums in float64, and its factor against what it is the factor of.
#include "src/compress/gram.h"

#include <Eigen/Dense>
#include <limits>

#include "tests/support/catch.h"
#include "tests/support/random_inputs.h"

namespace outrigger {
namespace {

std::unique_ptr<ThreadTeam> team_of(size_t threads) { return std::move(ThreadTeam::create(threads)).value(); }

TEST_CASE("Gram: the mean of products is that of float64 sums, whatever the numbers of tokens that come together") {
  const auto team = team_of(2);
  for (const size_t width : {1, 16, 40, 65}) {
    CAPTURE(width);
    Gram gram(width);
    std::vector<double> expected(width * width);
    size_t all = 0;
    for (const size_t tokens : {1, 15, 16, 33, 100}) {
      const std::vector<float> x = random_matrix(tokens, width, static_cast<unsigned>(tokens));
      gram.add(x, *team);
      all += tokens;
      for (size_t t = 0; t < tokens; ++t) {
        for (size_t i = 0; i < width * width; ++i) expected[i] += static_cast<double>(x[t * width + i / width]) * x[t * width + i % width];
      }
    }
    REQUIRE(gram.tokens() == all);
    for (size_t i = 0; i < width * width; ++i) {
      REQUIRE(gram.mean(i / width, i % width) == Approx(expected[i] / static_cast<double>(all)).margin(1e-5));
    }
  }
}

TEST_CASE("Gram: bits do not depend on the number of threads") {
  const std::vector<float> x = dependent_inputs(70, 48, 3);
  Gram one(48), three(48);
  one.add(x, *team_of(1));
  three.add(x, *team_of(3));
  for (size_t i = 0; i < 48 * 48; ++i) REQUIRE(one.mean(i / 48, i % 48) == three.mean(i / 48, i % 48));
}

// Columns from `first` on, as many as `count`, of rows of `width`.
std::vector<float> columns_of(const std::vector<float>& x, size_t width, size_t first, size_t count) {
  std::vector<float> some;
  for (size_t row = 0; row < x.size(); row += width) some.insert(some.end(), &x[row + first], &x[row + first] + count);
  return some;
}

TEST_CASE("Gram: in groups of columns each is what it is by itself, and what lies between them is nothing") {
  constexpr size_t kWidth = 150, kGroup = 64;
  const auto team = team_of(2);
  const std::vector<float> x = dependent_inputs(300, kWidth, 4);
  Gram grouped(kWidth, kGroup), whole(kWidth);
  for (Gram* gram : {&grouped, &whole}) gram->add(x, *team);
  REQUIRE(grouped.groups().count() == 3);
  CHECK(grouped.groups().elements() == 2 * 64 * 64 + 22 * 22);
  for (size_t i = 0; i < kWidth; ++i) {
    for (size_t j = 0; j < kWidth; ++j) REQUIRE(grouped.mean(i, j) == (i / kGroup == j / kGroup ? whole.mean(i, j) : 0));
  }
  const LeasedVector<float> factor = std::move(feedback_factor(grouped, {0}, *team)).value();
  REQUIRE(factor.size() == grouped.groups().elements());
  for (size_t group = 0; group < 3; ++group) {
    const size_t size = grouped.groups().size(group);
    Gram own(size);
    own.add(columns_of(x, kWidth, grouped.groups().first(group), size), *team);
    const LeasedVector<float> expected = std::move(feedback_factor(own, {0}, *team)).value();
    REQUIRE(expected.size() == size * size);
    REQUIRE(std::equal(expected.begin(), expected.end(), factor.begin() + static_cast<ptrdiff_t>(grouped.groups().place(group))));
  }
}

TEST_CASE("Gram: the feedback factor is upper triangular, and its square is the inverse of the damped matrix") {
  const auto team = team_of(2);
  const double between = GENERATE(0.0, 0.3, 1.0);
  for (const size_t width : {1, 16, 64, 130}) {
    CAPTURE(width, between);
    Gram gram(width);
    gram.add(dependent_inputs(3 * width, width, 5), *team);
    const auto factor = feedback_factor(gram, {kDamping, between}, *team);
    REQUIRE(factor.is_ok());
    const auto n = static_cast<Eigen::Index>(width);
    Eigen::MatrixXd matrix(n, n), upper(n, n);
    for (Eigen::Index i = 0; i < n; ++i) {
      for (Eigen::Index j = 0; j < n; ++j) {
        const double mean = gram.mean(static_cast<size_t>(i), static_cast<size_t>(j));
        matrix(i, j) = i == j ? mean + kDamping * gram.mean_diagonal() : mean * (1 - between);
        upper(i, j) = static_cast<double>(factor.value()[static_cast<size_t>(i * n + j)]);
        if (j < i) REQUIRE(upper(i, j) == 0);
      }
    }
    const double off = (upper.transpose() * upper * matrix - Eigen::MatrixXd::Identity(n, n)).cwiseAbs().maxCoeff();
    REQUIRE(off < 1e-3);
  }
}

TEST_CASE("Gram: columns that never carry anything can be factorised too, and so can inputs that are all zero") {
  const auto team = team_of(1);
  std::vector<float> x = random_matrix(64, 32, 1);
  for (size_t t = 0; t < 64; ++t) x[t * 32 + 7] = 0;
  Gram gram(32), nothing(32);
  gram.add(x, *team);
  nothing.add(std::vector<float>(64 * 32), *team);
  REQUIRE(feedback_factor(gram, {0.01}, *team).is_ok());
  REQUIRE(feedback_factor(nothing, {0.01}, *team).is_ok());
}

TEST_CASE("Gram: no tokens and inputs that are no numbers are refused") {
  Gram gram(16);
  REQUIRE(feedback_factor(gram, {0.01}, *team_of(1)).status().code() == StatusCode::kInvalidArgument);
  std::vector<float> x(16, 1);
  x[3] = std::numeric_limits<float>::quiet_NaN();
  gram.add(x, *team_of(1));
  REQUIRE(feedback_factor(gram, {0.01}, *team_of(1)).status().code() == StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace outrigger
