// FirstFit: what is taken against going through the order by hand, and how the order spreads.
#include "src/plan/first_fit.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "src/plan/memory_model.h"
#include "tests/support/random_shape.h"
#include "tests/support/catch.h"

namespace outrigger {
namespace {

std::vector<uint32_t> all_of(const StepShape& shape) {
  std::vector<uint32_t> all(shape.matrices.size());
  std::iota(all.begin(), all.end(), 0u);
  return all;
}

TEST_CASE("FirstFit: takes what going through the order one by one takes") {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    Random random(seed);
    const StepShape shape = random_shape(random);
    const std::vector<uint32_t> order = residency_order(shape, all_of(shape));
    const FirstFit fit(shape, order);
    for (int i = 0; i < 20; ++i) {
      const uint64_t capacity = pick(random, 0, 2 * fit.total().resident_bytes);
      std::vector<uint32_t> expected, got;
      uint64_t left = capacity;
      for (uint32_t index : order) {
        if (resident_bytes(shape.matrices[index]) > left) continue;
        left -= resident_bytes(shape.matrices[index]);
        expected.push_back(index);
      }
      const FirstFit::Taken taken = fit.take(capacity, [&got](uint32_t index) { got.push_back(index); });
      REQUIRE(got == expected);
      REQUIRE(taken.resident_bytes == capacity - left);
    }
  }
}

TEST_CASE("FirstFit: more capacity never saves fewer bytes of the file or of memory") {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    Random random(seed);
    const StepShape shape = random_shape(random);
    const FirstFit fit(shape, residency_order(shape, all_of(shape)));
    FirstFit::Taken before;
    for (uint64_t capacity = 0; capacity < fit.total().resident_bytes; capacity += pick(random, 1, 60000)) {
      const FirstFit::Taken now = fit.take(capacity);
      REQUIRE(now.file_bytes >= before.file_bytes);
      REQUIRE(now.packed_bytes >= before.packed_bytes);
      before = now;
    }
  }
}

TEST_CASE("FirstFit: matrices with more file bytes per byte of memory come first") {
  StepShape shape;
  for (uint64_t rows : {16, 1, 15, 16, 8}) shape.matrices.push_back(matrix_of("m", rows, 64));
  const std::vector<uint32_t> order = residency_order(shape, all_of(shape));
  REQUIRE(std::set<uint32_t>(order.begin(), order.begin() + 2) == std::set<uint32_t>{0, 3});
  REQUIRE(std::vector<uint32_t>(order.begin() + 2, order.end()) == std::vector<uint32_t>{2, 4, 1});
}

TEST_CASE("FirstFit: the first few of equal matrices lie evenly over the step") {
  StepShape shape;
  for (int i = 0; i < 100; ++i) shape.matrices.push_back(matrix_of("m", 16, 64));
  const std::vector<uint32_t> order = residency_order(shape, all_of(shape));
  for (size_t taken : {4, 10, 25, 50, 80}) {
    std::vector<uint32_t> first(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(taken));
    std::sort(first.begin(), first.end());
    first.push_back(100 + first.front());  // the step is a cycle
    uint32_t widest = 0;
    for (size_t i = 1; i < first.size(); ++i) widest = std::max(widest, first[i] - first[i - 1]);
    CAPTURE(taken, widest);
    REQUIRE(widest <= 3 * 100 / taken);
  }
}

}  // namespace
}  // namespace outrigger
