// PackedMatrix: against plain loops.
#include "src/forward/packed_matrix.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "tests/support/catch.h"
#include "tests/support/random_inputs.h"

namespace outrigger {
namespace {

std::vector<float> product(const std::vector<float>& matrix, const std::vector<float>& x, size_t rows, size_t columns, size_t tokens) {
  std::vector<float> y(tokens * rows);
  for (size_t t = 0; t < tokens; ++t) {
    for (size_t r = 0; r < rows; ++r) {
      double sum = 0;
      for (size_t c = 0; c < columns; ++c) sum += static_cast<double>(matrix[r * columns + c]) * x[t * columns + c];
      y[t * rows + r] = static_cast<float>(sum);
    }
  }
  return y;
}

double greatest_difference(const std::vector<float>& left, const std::vector<float>& right) {
  double most = 0;
  for (size_t i = 0; i < left.size(); ++i) most = std::max(most, std::abs(static_cast<double>(left[i]) - right[i]));
  return most;
}

TEST_CASE("PackedMatrix: products of any shape are those of plain loops, given straight or transposed, by a team or one thread") {
  const auto team = std::move(ThreadTeam::create(3)).value();
  PackedMatrix packed;  // one for all, larger and smaller in turn: nothing of the last matrix may show
  for (const auto& [rows, columns, tokens] :
       {std::array<size_t, 3>{5, 3, 2}, {200, 37, 9}, {16, 64, 1}, {1, 1, 1}, {33, 17, 70}, {2, 100, 31}}) {
    CAPTURE(rows, columns, tokens);
    const std::vector<float> matrix = random_matrix(rows, columns, 1), x = random_matrix(tokens, columns, 2);
    const std::vector<float> expected = product(matrix, x, rows, columns, tokens);
    std::vector<float> turned(matrix.size());
    transpose({matrix.data(), columns}, rows, columns, turned.data());
    CHECK((turned[(columns - 1) * rows] == matrix[columns - 1] && turned[rows - 1] == matrix[(rows - 1) * columns]));
    std::vector<std::vector<float>> made;
    for (ThreadTeam* const helpers : {team.get(), static_cast<ThreadTeam*>(nullptr)}) {
      for (const bool is_turned : {false, true}) {
        if (is_turned) {
          packed.pack_transposed({turned.data(), rows}, rows, columns, helpers);
        } else {
          packed.pack({matrix.data(), columns}, rows, columns, helpers);
        }
        std::vector<float>& y = made.emplace_back(expected.size());
        packed.multiply({x.data(), columns}, tokens, y.data(), rows, false, helpers);
      }
    }
    CHECK(greatest_difference(made[0], expected) < 1e-5 * std::sqrt(static_cast<double>(columns)));
    for (const std::vector<float>& y : made) CHECK(y == made[0]);
    packed.multiply({x.data(), columns}, tokens, made[1].data(), rows, true, team.get());
    for (float& value : made[0]) value += value;
    CHECK(made[1] == made[0]);
  }
}

TEST_CASE("PackedMatrix: rows may lie apart") {
  const auto team = std::move(ThreadTeam::create(2)).value();
  const std::vector<float> wide = random_matrix(20, 30, 3), x = random_matrix(4, 30, 4);
  std::vector<float> narrow, narrow_x;
  for (size_t r = 0; r < 20; ++r) narrow.insert(narrow.end(), wide.data() + r * 30 + 7, wide.data() + r * 30 + 18);
  for (size_t t = 0; t < 4; ++t) narrow_x.insert(narrow_x.end(), x.data() + t * 30 + 2, x.data() + t * 30 + 13);
  PackedMatrix packed;
  packed.pack({wide.data() + 7, 30}, 20, 11, team.get());
  std::vector<float> y(4 * 50, -1.0f);
  packed.multiply({x.data() + 2, 30}, 4, y.data(), 50, false, team.get());
  const std::vector<float> expected = product(narrow, narrow_x, 20, 11, 4);
  for (size_t t = 0; t < 4; ++t) {
    for (size_t r = 0; r < 20; ++r) CHECK(std::abs(y[t * 50 + r] - expected[t * 20 + r]) < 1e-4f);
    CHECK(y[t * 50 + 20] == -1.0f);
  }
}

}  // namespace
}  // namespace outrigger
