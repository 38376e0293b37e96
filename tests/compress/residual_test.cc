// Sparse residuals: what decoding gives back, and thresholds against shares counted on the same inputs.
#include "src/compress/residual.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "src/kernels/sparse_residual.h"
#include "src/tensor/dequantize.h"
#include "tests/support/catch.h"
#include "tests/support/random_inputs.h"

namespace outrigger {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity(), kNan = std::numeric_limits<float>::quiet_NaN();

SparseResidual encoded(const std::vector<float>& residual, size_t rows, size_t columns) {
  auto made = encode_residual(residual, rows, columns);
  REQUIRE(made.is_ok());
  return std::move(made).value();
}

std::vector<float> decoded(const SparseResidual& made) {
  std::vector<float> values(made.rows * made.columns);
  REQUIRE(made.bytes.size() == made.columns * *row_bytes(made.type, made.rows));
  REQUIRE(dequantize(made.type, made.bytes.data(), values.data(), values.size()).is_ok());
  return values;
}

TEST_CASE("Residual: a row of the encoded one is a column, within a tenth of its size, and its norm is that of what is decoded") {
  for (const auto& [rows, columns] : {std::pair<size_t, size_t>{32, 1}, {64, 17}, {96, 160}, {576, 33}}) {
    CAPTURE(rows, columns);
    const std::vector<float> residual = random_matrix(rows, columns, 3, 0.02f);
    const SparseResidual made = encoded(residual, rows, columns);
    REQUIRE(made.norms.size() == columns);
    const std::vector<float> values = decoded(made);
    double all_lost = 0, all_size = 0;
    for (size_t i = 0; i < columns; ++i) {
      double lost = 0, size = 0, square = 0;
      for (size_t r = 0; r < rows; ++r) {
        const double value = residual[r * columns + i], got = values[i * rows + r];
        lost += (value - got) * (value - got), size += value * value, square += got * got;
      }
      REQUIRE(std::sqrt(lost / size) < 0.12);
      REQUIRE(made.norms[i] == Approx(std::sqrt(square)).epsilon(1e-6));
      all_lost += lost, all_size += size;
    }
    CHECK(std::sqrt(all_lost / all_size) < 0.1);
    if (columns > 1) CHECK(std::sqrt(all_lost / all_size) > 0.05);
  }
}

TEST_CASE("Residual: read in full by the kernel it is the product with the decoded matrix, and close to that with the original") {
  constexpr size_t kRows = 128, kColumns = 96;
  const std::vector<float> residual = random_matrix(kRows, kColumns, 5, 0.02f), x = random_matrix(1, kColumns, 6);
  const SparseResidual made = encoded(residual, kRows, kColumns);
  std::vector<uint32_t> chosen(kColumns);
  const size_t count = choose_columns(x.data(), made.norms.data(), kColumns, -1, chosen.data());
  REQUIRE(count == kColumns);
  std::vector<float> dst(kRows);
  sparse_residual({made.type, made.bytes.data(), kRows, x.data(), kColumns, chosen.data(), kColumns, &count, dst.data(), kRows, 1}, 0,
                  kRows);
  const std::vector<float> values = decoded(made);
  double lost = 0, size = 0;
  for (size_t r = 0; r < kRows; ++r) {
    double exact = 0, original = 0;
    for (size_t i = 0; i < kColumns; ++i)
      exact += double{values[i * kRows + r]} * x[i], original += double{residual[r * kColumns + i]} * x[i];
    CHECK(dst[r] == Approx(exact).margin(1e-6));
    lost += (dst[r] - original) * (dst[r] - original), size += original * original;
  }
  CHECK(std::sqrt(lost / size) < 0.15);
}

TEST_CASE(
    "Residual: with the inputs' means, the bias is what they make of it, and reading few columns restores more of what is about the mean") {
  constexpr size_t kRows = 96, kColumns = 64, kTokens = 200;
  const std::vector<float> residual = random_matrix(kRows, kColumns, 5, 0.02f), offsets = random_matrix(1, kColumns, 6, 3);
  std::vector<float> x = random_matrix(kTokens, kColumns, 7);
  for (size_t i = 0; i < x.size(); ++i) x[i] += offsets[i % kColumns];
  InputMeans inputs(kColumns);
  REQUIRE(inputs.add(x).is_ok());
  const LeasedVector<float> means = inputs.means();
  auto result = encode_residual(residual, kRows, kColumns, means);
  REQUIRE(result.is_ok());
  const SparseResidual made = std::move(result).value();
  CHECK(encoded(residual, kRows, kColumns).bias.empty());
  const auto left = [&](bool centres) {
    std::vector<uint32_t> chosen(kColumns);
    double lost = 0;
    for (size_t t = 0; t < kTokens; ++t) {
      std::vector<float> token(&x[t * kColumns], &x[t * kColumns] + kColumns), dst(kRows);
      if (centres) std::copy(made.bias.begin(), made.bias.end(), dst.begin());
      std::vector<double> exact(kRows);
      for (size_t r = 0; r < kRows; ++r) {
        for (size_t i = 0; i < kColumns; ++i) exact[r] += double{residual[r * kColumns + i]} * token[i];
      }
      for (size_t i = 0; i < kColumns && centres; ++i) token[i] -= means[i];
      const size_t count = choose_columns(token.data(), made.norms.data(), kColumns, centres ? 0.2f : 0.9f, chosen.data());
      sparse_residual({made.type, made.bytes.data(), kRows, token.data(), kColumns, chosen.data(), kColumns, &count, dst.data(), kRows, 1},
                      0, kRows);
      for (size_t r = 0; r < kRows; ++r) lost += (dst[r] - exact[r]) * (dst[r] - exact[r]);
    }
    return lost;
  };
  CHECK(left(true) < left(false) / 2);
  for (size_t r = 0; r < kRows; ++r) {
    double bias = 0;
    for (size_t i = 0; i < kColumns; ++i) bias += double{residual[r * kColumns + i]} * means[i];
    REQUIRE(made.bias[r] == Approx(bias).margin(1e-7));
  }
}

TEST_CASE("InputMeans: the mean of each column, however the inputs are cut, and what is no input is refused and not added") {
  const std::vector<float> x = {1, 10, 2, 20, 6, 60};
  InputMeans whole(2), cut(2);
  CHECK(whole.means() == LeasedVector<float>{0, 0});
  REQUIRE(whole.add(x).is_ok());
  CHECK(whole.means() == LeasedVector<float>{3, 30});
  const std::vector<float> many = dependent_inputs(50, 2, 3);
  REQUIRE(whole.add(many).is_ok());
  REQUIRE(cut.add(x).is_ok());
  REQUIRE(cut.add(std::span(many).first(14)).is_ok());
  REQUIRE(cut.add(std::span(many).subspan(14)).is_ok());
  CHECK(whole.means() == cut.means());
  for (const std::vector<float>& wrong : {std::vector<float>{1, 2, 3}, {1, kNan}, {kInfinity, 1}}) {
    CHECK(cut.add(wrong).code() == StatusCode::kInvalidArgument);
  }
  CHECK(InputMeans(0).add({}).code() == StatusCode::kInvalidArgument);
  CHECK(whole.means() == cut.means());
}

TEST_CASE("Residual: zeros stay zeros, columns of zeros have no norm, and the same values give the same bytes") {
  std::vector<float> residual = random_matrix(64, 40, 1);
  for (size_t r = 0; r < 64; ++r) residual[r * 40 + 7] = 0;
  const SparseResidual one = encoded(residual, 64, 40), other = encoded(residual, 64, 40);
  CHECK(one.norms[7] == 0);
  CHECK(one.norms[8] > 0);
  CHECK(one.bytes == other.bytes);
  CHECK(one.norms == other.norms);
  const std::vector<float> nothing = decoded(encoded(std::vector<float>(64 * 40), 64, 40));
  CHECK(std::all_of(nothing.begin(), nothing.end(), [](float value) { return value == 0; }));
}

TEST_CASE("Residual: what is no residual is refused") {
  std::vector<float> residual = random_matrix(64, 40, 1);
  const auto code = [&](uint64_t rows, uint64_t columns) { return encode_residual(residual, rows, columns).status().code(); };
  CHECK(code(64, 40) == StatusCode::kOk);
  CHECK(code(40, 64) == StatusCode::kInvalidArgument);
  CHECK(code(64, 39) == StatusCode::kInvalidArgument);
  CHECK(code(32, 40) == StatusCode::kInvalidArgument);
  CHECK(code(0, 40) == StatusCode::kInvalidArgument);
  CHECK(code(64, 0) == StatusCode::kInvalidArgument);
  CHECK(code(uint64_t{1} << 63, 80) == StatusCode::kInvalidArgument);
  std::vector<float> means(39);
  CHECK(encode_residual(residual, 64, 40, means).status().code() == StatusCode::kInvalidArgument);
  means = std::vector<float>(40, kNan);
  CHECK(encode_residual(residual, 64, 40, means).status().code() == StatusCode::kInvalidArgument);
  for (float value : {kNan, kInfinity, -kInfinity, 6e5f}) {
    residual[77] = value;
    CHECK(code(64, 40) == StatusCode::kInvalidArgument);
  }
  residual[77] = -5e5f;
  CHECK(code(64, 40) == StatusCode::kOk);
  CHECK(std::abs(decoded(encoded(residual, 64, 40))[37 * 64 + 1] / -5e5f - 1) < 0.1);
}

ThresholdTable table_of(const std::vector<float>& x, const std::vector<float>& norms) {
  ThresholdCounter counter(norms);
  REQUIRE(counter.add(x).is_ok());
  auto table = counter.finish();
  REQUIRE(table.is_ok());
  return table.value();
}

double share_above(const std::vector<float>& x, const std::vector<float>& norms, float threshold) {
  std::vector<uint32_t> chosen(norms.size());
  size_t count = 0;
  for (size_t t = 0; t < x.size(); t += norms.size()) count += choose_columns(&x[t], norms.data(), norms.size(), threshold, chosen.data());
  return static_cast<double>(count) / static_cast<double>(x.size());
}

TEST_CASE("ThresholdCounter: on the inputs it saw, thresholds give the shares asked for within 1 %") {
  constexpr size_t kColumns = 200;
  std::vector<float> norms = random_matrix(1, kColumns, 8);
  for (float& norm : norms) norm = std::abs(norm) + 0.1f;
  for (const std::vector<float>& x : {random_matrix(300, kColumns, 9), dependent_inputs(300, kColumns, 10)}) {
    const ThresholdTable table = table_of(x, norms);
    CHECK(table.at.front() == kInfinity);
    CHECK(table.at.back() < 0);
    CHECK(std::is_sorted(table.at.rbegin(), table.at.rend()));
    CHECK(share_above(x, norms, table.threshold(0)) == 0);
    CHECK(share_above(x, norms, table.threshold(1)) == 1);
    for (size_t k = 1; k < 32; ++k) {
      CAPTURE(k);
      CHECK(std::abs(share_above(x, norms, table.at[k]) - static_cast<double>(k) / 32) < 0.0015);
    }
    for (double share : {0.05, 0.1, 0.2, 0.4, 0.77, 0.99}) {
      CAPTURE(share);
      CHECK(std::abs(share_above(x, norms, table.threshold(share)) - share) < 0.01);
    }
    for (double share : {0.02, 0.01, 0.005}) {
      CAPTURE(share);
      CHECK(share_above(x, norms, table.threshold(share)) == Approx(share).epsilon(0.5));
    }
  }
}

TEST_CASE("ThresholdCounter: inputs cut differently, or in another order, give the same table") {
  constexpr size_t kColumns = 33, kTokens = 60;
  const std::vector<float> x = dependent_inputs(kTokens, kColumns, 4), norms(kColumns, 0.7f);
  const ThresholdTable whole = table_of(x, norms);
  ThresholdCounter counter(norms);
  const std::span<const float> all(x);
  for (size_t t : {40, 20, 0}) {
    REQUIRE(counter.add(all.subspan((t + 1) * kColumns, 19 * kColumns)).is_ok());
    REQUIRE(counter.add(all.subspan(t * kColumns, kColumns)).is_ok());
    REQUIRE(counter.add({}).is_ok());
  }
  CHECK(counter.finish().value().at == whole.at);
}

TEST_CASE("ThresholdCounter: equal worths go together, zeros are never read before everything is, and one token is enough") {
  const std::vector<float> norms(64, 2.0f);
  const ThresholdTable constant = table_of(std::vector<float>(64 * 3, 0.3f), norms);
  for (size_t k = 1; k < 32; ++k) {
    const double share = share_above(std::vector<float>(64, 0.3f), norms, constant.at[k]);
    CHECK((share == 0 || share == 1));
    CHECK(constant.at[k] == Approx(0.6).epsilon(0.008));
  }
  const std::vector<float> zeros(64);
  const ThresholdTable nothing = table_of(zeros, norms);
  CHECK(share_above(zeros, norms, nothing.at[31]) == 0);
  CHECK(share_above(zeros, norms, nothing.threshold(1)) == 1);
  std::vector<float> half(64);
  for (size_t i = 0; i < 64; i += 2) half[i] = static_cast<float>(i + 1);
  const ThresholdTable one = table_of(half, norms);
  CHECK(share_above(half, norms, one.threshold(0.25)) == Approx(0.25).margin(0.02));
  CHECK(share_above(half, norms, one.threshold(0.75)) == Approx(0.5));
}

TEST_CASE("ThresholdCounter: what is no input is refused and not counted") {
  const std::vector<float> norms = {1, 2, 3};
  ThresholdCounter counter(norms);
  CHECK(counter.finish().status().code() == StatusCode::kInvalidArgument);
  for (float value : {kNan, kInfinity, -kInfinity, 3e38f}) {
    CHECK(counter.add(std::vector<float>{1, 1, 1, 1, 1, value}).code() == StatusCode::kInvalidArgument);
  }
  CHECK(counter.add(std::vector<float>{1, 1, 1, 1}).code() == StatusCode::kInvalidArgument);
  CHECK(counter.finish().status().code() == StatusCode::kInvalidArgument);
  CHECK(ThresholdCounter({}).add(std::vector<float>{1}).code() == StatusCode::kInvalidArgument);
  REQUIRE(counter.add(std::vector<float>{1, 1, 1}).is_ok());
  CHECK(counter.finish().is_ok());
}

}  // namespace
}  // namespace outrigger
