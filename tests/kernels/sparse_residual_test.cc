// Sparse residual: the definitions against formulas in double, and each level against the definitions, bit for bit.
#include "src/kernels/sparse_residual.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "src/kernels/threshold_table.h"
#include "src/tensor/dequantize.h"
#include "tests/kernels/kernel_case.h"
#include "tests/support/catch.h"

namespace outrigger {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity(), kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<uint32_t> chosen_by(decltype(choose_columns) version, const float* x, const float* norms, size_t columns, float threshold) {
  std::vector<uint32_t> chosen(columns);
  chosen.resize(version(x, norms, columns, threshold, chosen.data()));
  return chosen;
}

std::vector<float> sizes_of_columns(size_t columns, unsigned seed) {
  std::vector<float> norms = normal_floats(columns, seed);
  for (float& norm : norms) norm = std::fabs(norm);
  return norms;
}

// Tokens' inputs, the columns they chose and a matrix in the file's bytes, one byte off any alignment.
struct Case {
  DType type;
  size_t rows, columns, tokens;
  std::vector<std::byte> storage;
  std::vector<float> x, norms, before;
  std::vector<uint32_t> chosen;
  std::vector<size_t> counts;
  std::vector<float> bias;  // none, until a test gives some
  static constexpr size_t kPadding = 3;

  Case(DType type, size_t rows, size_t columns, size_t tokens, float threshold, unsigned seed = 1)
      : type(type),
        rows(rows),
        columns(columns),
        tokens(tokens),
        x(normal_floats(tokens * (columns + kPadding), seed + 1)),
        norms(sizes_of_columns(columns, seed + 2)),
        before(normal_floats(tokens * (rows + kPadding), seed + 3)),
        chosen(tokens * columns),
        counts(tokens) {
    const std::vector<std::byte> file =
        random_file_rows(type == DType::kQ4_0 ? PackedKind::kQ4_0 : PackedKind::kIQ4_NL, columns, rows, seed);
    storage.resize(file.size() + 1);
    std::copy(file.begin(), file.end(), storage.begin() + 1);
    choose(threshold);
  }

  void choose(float threshold) {
    for (size_t t = 0; t < tokens; ++t) {
      counts[t] = choose_columns_ref(&x[t * (columns + kPadding)], norms.data(), columns, threshold, &chosen[t * columns]);
    }
  }
  SparseResidualArgs args(float* dst, size_t first, size_t count) const {
    return {type,
            storage.data() + 1,
            rows,
            &x[first * (columns + kPadding)],
            columns + kPadding,
            &chosen[first * columns],
            columns,
            &counts[first],
            dst + first * (rows + kPadding),
            rows + kPadding,
            count,
            bias.empty() ? nullptr : bias.data()};
  }
  std::vector<float> run(decltype(sparse_residual) version) const {
    std::vector<float> dst = before;
    version(args(dst.data(), 0, tokens), 0, rows);
    return dst;
  }
  // The largest error, in terms of what there may be: the rounding of the factors, of each addition to the sum and of the last one.
  double worst_of(const std::vector<float>& got) const {
    std::vector<float> values(columns * rows);
    REQUIRE(dequantize(type, storage.data() + 1, values.data(), values.size()).is_ok());
    double worst = 0;
    for (size_t t = 0; t < tokens; ++t) {
      for (size_t r = 0; r < rows; ++r) {
        const size_t place = t * (rows + kPadding) + r;
        double exact = before[place], size = 0;
        if (!bias.empty()) exact += bias[r], size += std::fabs(bias[r]);
        for (size_t i = 0; i < counts[t]; ++i) {
          const size_t column = chosen[t * columns + i];
          const double term = double{x[t * (columns + kPadding) + column]} * values[column * rows + r];
          exact += term, size += std::fabs(term);
        }
        const double bound = 0x1p-24 * (size * (2 + static_cast<double>(counts[t])) + std::fabs(exact) * 1.01);
        worst = std::max(worst, std::fabs(got[place] - exact) / bound);
      }
    }
    return worst;
  }
};

TEST_CASE("ChooseColumns: every level chooses the definition's columns, in order, at every width and place") {
  for (size_t columns = 1; columns < 70; ++columns) {
    const std::vector<float> x = normal_floats(columns + 1, 1), norms = sizes_of_columns(columns + 1, 2);
    for (float threshold : {kInfinity, 2.0f, 0.5f, 0.05f, 0.0f, -1.0f}) {
      const std::vector<uint32_t> defined = chosen_by(choose_columns_ref, &x[1], &norms[1], columns, threshold);
      if (threshold == kInfinity) REQUIRE(defined.empty());
      if (threshold < 0) REQUIRE(defined.size() == columns);
      for (uint32_t i : defined) REQUIRE(std::fabs(x[i + 1]) * norms[i + 1] > threshold);
      for (SimdLevel level : levels()) {
        const AtLevel at(level);
        CAPTURE(columns, threshold, simd_level_name(level));
        REQUIRE(chosen_by(choose_columns, &x[1], &norms[1], columns, threshold) == defined);
      }
    }
  }
}

TEST_CASE("ChooseColumns: equal to the threshold is not above it, a NaN is above nothing and an infinity above every number") {
  std::vector<float> x = {1, -1, kNan, kInfinity, -kInfinity, 0, 2, kInfinity}, norms = {1, 1, 1, 1, 1, 1, kNan, 0};
  const size_t columns = x.size() * 5;
  while (x.size() < columns) x.push_back(x[x.size() - 8]), norms.push_back(norms[norms.size() - 8]);
  for (SimdLevel level : levels()) {
    const AtLevel at(level);
    const auto first = [&](float threshold) {
      std::vector<uint32_t> all = chosen_by(choose_columns, x.data(), norms.data(), columns, threshold);
      REQUIRE(all.size() % 5 == 0);
      all.resize(all.size() / 5);
      return all;
    };
    REQUIRE(first(1) == std::vector<uint32_t>{3, 4});
    REQUIRE(first(0.999f) == std::vector<uint32_t>{0, 1, 3, 4});
    REQUIRE(first(-1) == std::vector<uint32_t>{0, 1, 3, 4, 5});
    REQUIRE(first(kInfinity).empty());
    REQUIRE(first(kNan).empty());
  }
}

TEST_CASE("SparseResidual: the definition is within rounding of the sum in double, and every level has its bits, whatever the shape") {
  for (DType type : {DType::kQ4_0, DType::kIQ4_NL}) {
    for (size_t rows : {32, 64, 96, 288, 576}) {
      for (size_t columns : {1, 2, 3, 4, 5, 7, 33, 100}) {
        for (size_t tokens : {1, 2, 5}) {
          for (float threshold : {kInfinity, 1.0f, 0.3f, -1.0f}) {
            Case c(type, rows, columns, tokens, threshold);
            if (columns % 2 == 0) c.bias = normal_floats(rows, 5);
            CAPTURE(type, rows, columns, tokens, threshold);
            const std::vector<float> defined = c.run(sparse_residual_ref);
            REQUIRE(c.worst_of(defined) <= 1);
            for (SimdLevel level : levels()) {
              const AtLevel at(level);
              CAPTURE(simd_level_name(level));
              REQUIRE(same_bits(c.run(sparse_residual), defined));
            }
          }
        }
      }
    }
  }
}

TEST_CASE("SparseResidual: more rows than a strip has, more tokens than share a strip and more columns than stay near change no bit") {
  for (const auto& [rows, columns, tokens] :
       {std::tuple<size_t, size_t, size_t>{4160, 70, 1}, {2080, 40, 9}, {1024, 1500, 3}, {32, 600, 17}}) {
    Case c(DType::kQ4_0, rows, columns, tokens, 0.6f);
    c.bias = normal_floats(rows, 5);
    const std::vector<float> defined = c.run(sparse_residual_ref);
    for (SimdLevel level : levels()) {
      const AtLevel at(level);
      CAPTURE(rows, columns, tokens, simd_level_name(level));
      REQUIRE(same_bits(c.run(sparse_residual), defined));
    }
  }
}

TEST_CASE("SparseResidual: the split of the rows and the tokens beside a token change no bit, and rows outside the range are left") {
  for (DType type : {DType::kQ4_0, DType::kIQ4_NL}) {
    Case c(type, 544, 90, 5, 0.5f);
    c.bias = normal_floats(c.rows, 5);
    for (SimdLevel level : levels()) {
      const AtLevel at(level);
      const std::vector<float> together = c.run(sparse_residual);
      std::vector<float> parts = c.before;
      for (size_t t = 0; t < c.tokens; ++t) {
        for (const auto& [begin, end] : {std::pair<size_t, size_t>{320, 544}, {0, 32}, {32, 96}, {96, 320}}) {
          sparse_residual(c.args(parts.data(), t, 1), begin, end);
        }
      }
      REQUIRE(same_bits(parts, together));
      std::vector<float> some = c.before;
      sparse_residual(c.args(some.data(), 0, c.tokens), 64, 128);
      for (size_t i = 0; i < some.size(); ++i) {
        const size_t r = i % (c.rows + Case::kPadding);
        REQUIRE(some[i] == (r >= 64 && r < 128 ? together[i] : c.before[i]));
      }
      sparse_residual(c.args(some.data(), 0, c.tokens), 96, 96);
      sparse_residual(c.args(some.data(), 0, 0), 0, 544);
      REQUIRE(some[96] == together[96]);
    }
  }
}

TEST_CASE("SparseResidual: what is chosen spreads its NaN or infinity, also from a scale, and what is not chosen does not") {
  Case c(DType::kQ4_0, 64, 40, 2, -1.0f);
  c.x[7] = kInfinity;
  c.x[43 + 9] = kNan;
  c.choose(0.5f);
  const uint16_t nan = 0x7e00;
  std::memcpy(&c.storage[1 + 0 * 36 + 18], &nan, 2);  // rows 32-63 of column 0
  c.x[0] = 3, c.norms[0] = 1, c.x[43] = 0;            // which the first token alone chooses
  c.choose(0.5f);
  c.norms[7] = 1;
  c.choose(0.5f);
  for (SimdLevel level : levels()) {
    const AtLevel at(level);
    const std::vector<float> dst = c.run(sparse_residual);
    REQUIRE(same_bits(dst, c.run(sparse_residual_ref)));
    REQUIRE_FALSE(std::isfinite(dst[5]));   // the infinity
    REQUIRE(std::isnan(dst[40]));           // the scale
    for (size_t r = 0; r < 64; ++r) REQUIRE(std::isfinite(dst[67 + r]));
  }
}

TEST_CASE("SparseResidual: nothing chosen changes nothing, and the bound notices a column that is left out") {
  Case c(DType::kQ4_0, 96, 50, 1, kInfinity);
  for (SimdLevel level : levels()) {
    const AtLevel at(level);
    REQUIRE(c.run(sparse_residual) == c.before);
  }
  c.choose(0.5f);
  REQUIRE(c.worst_of(c.run(sparse_residual_ref)) <= 1);
  --c.counts[0];
  const std::vector<float> without = c.run(sparse_residual_ref);
  ++c.counts[0];
  REQUIRE(c.worst_of(without) > 100);
}

TEST_CASE("ThresholdTable: linear between its steps, beyond the first one by what halving adds, and never rising") {
  ThresholdTable table;
  for (size_t k = 0; k <= ThresholdTable::kSteps; ++k) table.at[k] = static_cast<float>(ThresholdTable::kSteps - k) / 8;
  table.at.front() = kInfinity;
  table.at.back() = -1;
  CHECK(table.threshold(0) == kInfinity);
  CHECK(table.threshold(-1) == kInfinity);
  CHECK(table.threshold(1) == -1);
  CHECK(table.threshold(2) == -1);
  CHECK(table.threshold(kNan) == -1);
  for (size_t k = 1; k < ThresholdTable::kSteps; ++k) CHECK(table.threshold(static_cast<double>(k) / 32) == table.at[k]);
  CHECK(table.threshold(0.25 + 1.0 / 64) == Approx((table.at[8] + table.at[9]) / 2));
  CHECK(table.threshold(31.5 / 32) == Approx(table.at[31] / 2));
  CHECK(table.threshold(1.0 / 128) == Approx(table.at[1] + 2 * (table.at[1] - table.at[2])));
  float before = kInfinity;
  for (int i = 1; i < 5000; ++i) {
    const float threshold = table.threshold(i / 5000.0);
    REQUIRE(threshold <= before);
    REQUIRE(threshold >= 0);
    before = threshold;
  }
}

TEST_CASE(
    "gated_threshold: a column is chosen where weight times its worth is above the threshold; all where that is below zero, none without a "
    "weight") {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const std::vector<float> x = {0, 0.5f, -1, 2, -4, 8}, norms(x.size(), 1);
  std::vector<uint32_t> chosen(x.size() + 16);
  const auto count = [&](float threshold, float weight) {
    return choose_columns(x.data(), norms.data(), x.size(), gated_threshold(threshold, weight), chosen.data());
  };
  for (const float threshold : {0.0f, 0.25f, 1.0f, 3.0f, 100.0f, kInfinity}) {
    for (const float weight : {1.0f, 0.5f, 0.125f, 1e-30f}) {
      CAPTURE(threshold, weight);
      const auto is_above = [&](float value) { return weight * std::abs(value) > threshold; };
      CHECK(count(threshold, weight) == static_cast<size_t>(std::count_if(x.begin(), x.end(), is_above)));
    }
    for (const float weight : {0.0f, -1.0f, -kInfinity, std::nanf("")}) CHECK(count(threshold, weight) == 0);
  }
  for (const float weight : {1.0f, 0.0f, 1e-30f}) CHECK(count(-1, weight) == x.size());
}

}  // namespace
}  // namespace outrigger
