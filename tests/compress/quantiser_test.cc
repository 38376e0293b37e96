// Quantiser: against error feedback as the textbook has it, in float64, one weight at a time.
#include "src/compress/quantiser.h"

#include <Eigen/Dense>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "src/compress/gram.h"
#include "src/tensor/dequantize.h"
#include "src/tensor/encode_own.h"
#include "src/tensor/half.h"
#include "src/tensor/low_bit_copy.h"
#include "tests/support/catch.h"
#include "tests/support/random_inputs.h"

namespace outrigger {
namespace {

using Matrix = Eigen::MatrixXd;

struct Case {
  size_t rows, columns;
  std::unique_ptr<ThreadTeam> team = std::move(ThreadTeam::create(2)).value();
  std::vector<float> weights;
  Gram gram;
  std::vector<float> diagonal;
  LeasedVector<float> feedback;

  Case(size_t row_count, size_t column_count, unsigned seed)
      : rows(row_count), columns(column_count), weights(random_matrix(row_count, column_count, seed, 0.05f)), gram(column_count) {
    gram.add(dependent_inputs(4 * columns, columns, seed), *team);
    for (size_t i = 0; i < columns; ++i) diagonal.push_back(static_cast<float>(gram.mean(i, i)));
    feedback = std::move(feedback_factor(gram, {0.01}, *team)).value();
  }

  LowBitMatrix quantise(int bits, bool with_feedback = true, bool searches = true, const OwnForm& form = {}) {
    const std::span<const float> handed_on = with_feedback ? std::span<const float>(feedback) : std::span<const float>();
    auto made = quantise_matrix(weights, rows, columns, {diagonal, handed_on}, {bits, searches, form}, *team);
    REQUIRE(made.is_ok());
    return std::move(made).value();
  }

  std::vector<float> values(const LowBitMatrix& matrix) const {
    std::vector<float> all(rows * columns);
    REQUIRE(dequantize(matrix.type, matrix.bytes.data(), all.data(), all.size()).is_ok());
    return all;
  }

  // The mean square of what the error makes of the inputs: trace of E G E^T.
  double loss(const LowBitMatrix& matrix) const {
    const std::vector<float> got = values(matrix);
    double sum = 0;
    for (size_t row = 0; row < rows; ++row) {
      for (size_t i = 0; i < columns; ++i) {
        for (size_t j = 0; j < columns; ++j) {
          const double a = weights[row * columns + i] - got[row * columns + i], b = weights[row * columns + j] - got[row * columns + j];
          sum += a * gram.mean(i, j) * b;
        }
      }
    }
    return sum;
  }
};

constexpr OwnForm kForms[] = {{false, 64}, {true, 64}, {false, 128}, {true, 128}};

// As docs/formats.md has them.
std::vector<double> levels_of(int bits, const OwnForm& form) {
  if (form.has_codebook && bits == 2) return {0, 9, 17, 29};
  if (form.has_codebook && bits == 3) return {0, 5, 9, 12, 15, 18, 22, 29};
  if (form.has_codebook) return {0, 6, 11, 15, 19, 22, 25, 28, 31, 34, 37, 40, 44, 48, 53, 61};
  std::vector<double> all;
  for (int code = 0; code < 1 << bits; ++code) all.push_back(code);
  return all;
}

double nearest_level(double step, const std::vector<double>& levels) {
  double best = levels[0];
  for (const double level : levels) best = std::abs(level - step) < std::abs(best - step) ? level : best;
  return best;
}

// Rounds the columns of a row in turn; each time the inverse of what is left of the Gram matrix says how the columns that are left make up
// for it. The scales are those that the quantiser found.
std::vector<double> by_the_book(const Case& c, const LowBitMatrix& made, size_t row, int bits, const OwnForm& form) {
  const auto n = static_cast<Eigen::Index>(c.columns);
  Matrix left(n, n);
  for (Eigen::Index i = 0; i < n; ++i) {
    for (Eigen::Index j = 0; j < n; ++j) {
      left(i, j) = c.gram.mean(static_cast<size_t>(i), static_cast<size_t>(j)) + (i == j ? 0.01 * c.gram.mean_diagonal() : 0);
    }
  }
  std::vector<double> weights(c.weights.begin() + static_cast<ptrdiff_t>(row * c.columns),
                              c.weights.begin() + static_cast<ptrdiff_t>((row + 1) * c.columns)),
      values;
  const size_t block_bytes = traits(made.type).block_bytes;
  for (Eigen::Index column = 0; column < n; ++column) {
    const auto at = static_cast<size_t>(column);
    const std::byte* const block = made.bytes.data() + (row * c.columns + at) / form.block * block_bytes;
    uint16_t halves[2];
    std::memcpy(halves, block, 4);
    const double scale = f16_to_float(halves[0]), minimum = f16_to_float(halves[1]);
    values.push_back(scale * nearest_level((weights[at] - minimum) / scale, levels_of(bits, form)) + minimum);
    const double error = weights[at] - values.back();
    const Matrix inverse = left.bottomRightCorner(n - column, n - column).inverse();
    for (Eigen::Index later = column; later < n; ++later)
      weights[static_cast<size_t>(later)] -= error * inverse(0, later - column) / inverse(0, 0);
  }
  return values;
}

TEST_CASE("Quantiser: codes are those of error feedback by the book") {
  for (const OwnForm& form : kForms) {
    for (const int bits : {2, 3, 4}) {
      CAPTURE(bits, form.has_codebook, form.block);
      // Inverting for each column anew, as the book has it, takes the fourth power of the columns.
      const bool has_two_blocks = form.block == 64 || bits == 3;
      Case c(form.block == 64 ? 4 : 1, has_two_blocks ? 2 * form.block : form.block, static_cast<unsigned>(bits));
      const LowBitMatrix made = c.quantise(bits, true, true, form);
      REQUIRE(made.type == *own_type(bits, form));
      const std::vector<float> got = c.values(made);
      size_t different = 0;
      for (size_t row = 0; row < c.rows; ++row) {
        const std::vector<double> expected = by_the_book(c, made, row, bits, form);
        // float32 and float64 may round one weight of a thousand differently, and then all behind it.
        for (size_t i = 0; i < c.columns; ++i) different += std::abs(expected[i] - got[row * c.columns + i]) > 1e-6;
      }
      REQUIRE(different <= c.rows * c.columns / 25);
    }
  }
}

TEST_CASE("Quantiser: without feedback every weight has the nearest of its block's values") {
  for (const OwnForm& form : kForms) {
    for (const int bits : {2, 3, 4}) {
      Case c(35, 256, 7);
      const LowBitMatrix made = c.quantise(bits, false, true, form);
      const std::vector<float> got = c.values(made);
      const size_t block_bytes = traits(made.type).block_bytes;
      for (size_t i = 0; i < got.size(); ++i) {
        uint16_t halves[2];
        std::memcpy(halves, made.bytes.data() + i / form.block * block_bytes, 4);
        const float scale = f16_to_float(halves[0]), minimum = f16_to_float(halves[1]);
        float nearest = std::numeric_limits<float>::infinity();
        for (const double level : levels_of(bits, form)) {
          nearest = std::min(nearest, std::abs(scale * static_cast<float>(level) + minimum - c.weights[i]));
        }
        REQUIRE(std::abs(got[i] - c.weights[i]) == Approx(nearest).margin(1e-6));
      }
    }
  }
}

TEST_CASE("Quantiser: a codebook loses less than equal steps, blocks of 128 more than those of 64, and its scales have both signs") {
  for (const int bits : {2, 3, 4}) {
    CAPTURE(bits);
    Case c(64, 256, 5);
    const LowBitMatrix with_table = c.quantise(bits, true, true, {true, 64});
    const double equal = c.loss(c.quantise(bits)), table = c.loss(with_table);
    CHECK(table < (bits == 2 ? 0.97 : bits == 3 ? 0.9 : 0.85) * equal);
    CHECK(c.loss(c.quantise(bits, true, true, {false, 128})) > 1.05 * equal);
    CHECK(c.loss(c.quantise(bits, true, true, {true, 128})) > 1.05 * table);
    size_t turned = 0;
    const size_t block_bytes = traits(with_table.type).block_bytes, blocks = with_table.bytes.size() / block_bytes;
    for (size_t i = 0; i < blocks; ++i) {
      uint16_t scale;
      std::memcpy(&scale, with_table.bytes.data() + i * block_bytes, 2);
      turned += f16_to_float(scale) < 0;
    }
    CHECK((turned > blocks / 5 && turned < blocks * 4 / 5));
  }
}

TEST_CASE("Quantiser: searching scales is better than the whole range, and feedback much better than none") {
  for (const int bits : {2, 3, 4}) {
    CAPTURE(bits);
    Case c(48, 256, 11);
    const double range = c.loss(c.quantise(bits, false, false)), searched = c.loss(c.quantise(bits, false)),
                 fed_back = c.loss(c.quantise(bits));
    REQUIRE(searched < range);
    REQUIRE(fed_back < 0.6 * searched);
  }
}

TEST_CASE("Quantiser: bits do not depend on the number of threads, and rows not on the rows beside them") {
  Case c(70, 128, 3);
  const LowBitMatrix two = c.quantise(3), with_table = c.quantise(3, true, true, {true, 128});
  for (const size_t threads : {1, 3}) {
    c.team = std::move(ThreadTeam::create(threads)).value();
    REQUIRE(c.quantise(3).bytes == two.bytes);
    REQUIRE(c.quantise(3, true, true, {true, 128}).bytes == with_table.bytes);
  }
  Case part(70, 128, 3);
  part.rows = 5;
  part.weights.resize(5 * 128);
  const LowBitMatrix few = part.quantise(3);
  REQUIRE(std::equal(few.bytes.begin(), few.bytes.end(), two.bytes.begin()));
}

TEST_CASE("Quantiser: weights that are all alike, all zero or tiny stay what they are") {
  for (const float value : {0.0f, 0.75f, -3.0f}) {
    CAPTURE(value);
    Case c(3, 64, 1);
    std::fill(c.weights.begin(), c.weights.end(), value);
    for (const OwnForm& form : {OwnForm{}, OwnForm{true, 64}}) {
      for (const float got : c.values(c.quantise(2, true, true, form))) REQUIRE(got == value);
    }
  }
  Case tiny(3, 64, 1);
  for (float& weight : tiny.weights) weight *= 1e-6f;
  for (const float got : tiny.values(tiny.quantise(4))) REQUIRE(std::abs(got) < 1e-4f);
}

TEST_CASE("Quantiser: what cannot be quantised is refused with a reason") {
  Case c(4, 64, 1);
  const InputStatistics inputs{c.diagonal, c.feedback};
  const auto code = [&](uint64_t rows, uint64_t columns, int bits, uint32_t block = 64) {
    return quantise_matrix(c.weights, rows, columns, inputs, {bits, true, {false, block}}, *c.team).status().code();
  };
  REQUIRE(code(4, 64, 3) == StatusCode::kOk);
  REQUIRE(code(4, 64, 5) == StatusCode::kInvalidArgument);
  REQUIRE(code(8, 32, 3) == StatusCode::kInvalidArgument);
  REQUIRE(code(5, 64, 3) == StatusCode::kInvalidArgument);
  REQUIRE(code(4, 64, 3, 128) == StatusCode::kInvalidArgument);
  REQUIRE(code(4, 64, 3, 32) == StatusCode::kInvalidArgument);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), 1e6f}) {
    c.weights[77] = bad;
    REQUIRE(code(4, 64, 3) == StatusCode::kInvalidArgument);
  }
}

TEST_CASE("copy_low_bit: is what the quantiser makes of the same values where every column weighs alike, of every packed kind") {
  const auto team = std::move(ThreadTeam::create(1)).value();
  const std::vector<float> ones(256, 1);
  for (const DType from :
       {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ4_1, DType::kQ6_K, DType::kIQ4_NL, DType::kMXFP4, DType::kO3}) {
    for (const size_t rows : {1u, 16u, 17u, 40u, 75u}) {
      constexpr size_t kColumns = 256;
      // Any codes, but for scales, which are small numbers.
      std::vector<std::byte> file(rows * *row_bytes(from, kColumns));
      std::mt19937 random(static_cast<unsigned>(rows));
      for (std::byte& byte : file) byte = static_cast<std::byte>(random() % 64);
      const std::vector<float> floats = random_matrix(rows, kColumns, 7, 0.05f);
      if (from == DType::kF32) std::memcpy(file.data(), floats.data(), file.size());
      std::vector<float> values(rows * kColumns);
      REQUIRE(dequantize(from, file.data(), values.data(), values.size()).is_ok());
      const PackedKind kind = *packed_kind(from);
      std::vector<std::byte> packed(packed_bytes(kind, rows, kColumns));
      pack_rows(from, file.data(), rows, kColumns, packed.data());
      for (const int bits : {2, 3, 4}) {
        CAPTURE(traits(from).name, rows, bits);
        const LowBitMatrix made = std::move(quantise_matrix(values, rows, kColumns, {ones, {}}, {bits, true}, *team)).value();
        std::vector<std::byte> expected(packed_bytes(*packed_kind(made.type), rows, kColumns)), got(expected.size(), std::byte{0xee});
        pack_rows(made.type, made.bytes.data(), rows, kColumns, expected.data());
        copy_low_bit(kind, packed.data(), rows, kColumns, made.type, got.data());
        CHECK((got == expected));
      }
    }
  }
}

TEST_CASE("quantise_matrix: in groups of columns each is quantised as if it were a matrix of its own") {
  constexpr size_t kRows = 40, kColumns = 192, kGroup = 128;
  const auto team = std::move(ThreadTeam::create(2)).value();
  const std::vector<float> weights = random_matrix(kRows, kColumns, 9, 0.05f), inputs = dependent_inputs(600, kColumns, 9);
  const auto slice = [](const std::vector<float>& all, size_t first, size_t count) {
    std::vector<float> some;
    for (size_t row = 0; row < all.size(); row += kColumns) some.insert(some.end(), &all[row + first], &all[row + first] + count);
    return some;
  };
  const auto quantised = [&](const std::vector<float>& matrix, const std::vector<float>& x, size_t columns, size_t group) {
    Gram gram(columns, group);
    gram.add(x, *team);
    std::vector<float> diagonal;
    for (size_t i = 0; i < columns; ++i) diagonal.push_back(static_cast<float>(gram.mean(i, i)));
    const LeasedVector<float> feedback = std::move(feedback_factor(gram, {0}, *team)).value();
    return std::move(quantise_matrix(matrix, kRows, columns, {diagonal, feedback, group}, {3, true}, *team)).value().bytes;
  };
  const LeasedVector<std::byte> all = quantised(weights, inputs, kColumns, kGroup);
  const size_t row_bytes = all.size() / kRows;
  for (const auto& [first, count] : {std::pair<size_t, size_t>{0, kGroup}, {kGroup, kColumns - kGroup}}) {
    const LeasedVector<std::byte> part = quantised(slice(weights, first, count), slice(inputs, first, count), count, 0);
    const size_t part_bytes = part.size() / kRows, before = row_bytes * first / kColumns;
    for (size_t row = 0; row < kRows; ++row) {
      REQUIRE(std::equal(part.begin() + static_cast<ptrdiff_t>(row * part_bytes),
                         part.begin() + static_cast<ptrdiff_t>((row + 1) * part_bytes),
                         all.begin() + static_cast<ptrdiff_t>(row * row_bytes + before)));
    }
  }
}

TEST_CASE("copy_low_bit: more bits lose less, and what is no number makes a copy all the same") {
  constexpr size_t kRows = 33, kColumns = 192;
  std::vector<float> values = random_matrix(kRows, kColumns, 3, 0.05f);
  std::vector<std::byte> packed(packed_bytes(PackedKind::kF32, kRows, kColumns)), copy(packed_bytes(PackedKind::kO4, kRows, kColumns));
  pack_rows(DType::kF32, reinterpret_cast<const std::byte*>(values.data()), kRows, kColumns, packed.data());
  double before = 1, norm = 0;
  for (const float value : values) norm += double{value} * value;
  for (const int bits : {2, 3, 4}) {
    copy_low_bit(PackedKind::kF32, packed.data(), kRows, kColumns, *own_type(bits), copy.data());
    double error = 0;
    std::vector<float> row(kColumns);
    for (size_t r = 0; r < kRows; ++r) {
      unpack_row(*packed_kind(*own_type(bits)), copy.data(), r, kColumns, row.data());
      for (size_t k = 0; k < kColumns; ++k) error += std::pow(double{row[k]} - values[r * kColumns + k], 2);
    }
    CHECK(error / norm < before / 3);
    before = error / norm;
  }
  CHECK(before < 0.01);
  values[5] = std::numeric_limits<float>::quiet_NaN();
  values[200] = std::numeric_limits<float>::infinity();
  pack_rows(DType::kF32, reinterpret_cast<const std::byte*>(values.data()), kRows, kColumns, packed.data());
  copy_low_bit(PackedKind::kF32, packed.data(), kRows, kColumns, DType::kO2, copy.data());
}

}  // namespace
}  // namespace outrigger
