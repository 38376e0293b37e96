// checksum64: every bit counts, the length and the seed too.
#include "src/base/checksum.h"

#include <set>
#include <vector>

#include "tests/support/catch.h"

namespace outrigger::testing {
namespace {

std::vector<std::byte> regular(size_t bytes) {
  std::vector<std::byte> all(bytes);
  for (size_t i = 0; i < bytes; ++i) all[i] = static_cast<std::byte>(i * i * 7 + i);
  return all;
}

TEST_CASE("checksum64: each bit of any length changes the sum, and no two changes give the same one") {
  for (const size_t bytes : {size_t{1}, size_t{7}, size_t{8}, size_t{31}, size_t{32}, size_t{33}, size_t{64}, size_t{171}}) {
    CAPTURE(bytes);
    std::vector<std::byte> all = regular(bytes);
    std::set<uint64_t> sums = {checksum64(all)};
    for (size_t bit = 0; bit < 8 * bytes; ++bit) {
      all[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
      sums.insert(checksum64(all));
      all[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    }
    CHECK(sums.size() == 8 * bytes + 1);
  }
}

TEST_CASE("checksum64: zeros of another number, and another seed, have another sum") {
  std::set<uint64_t> sums;
  for (size_t bytes = 0; bytes < 200; ++bytes) {
    for (uint64_t seed = 0; seed < 20; ++seed) sums.insert(checksum64(std::vector<std::byte>(bytes), seed));
  }
  CHECK(sums.size() == 200 * 20);
  CHECK(sums.count(0) == 0);
}

TEST_CASE("checksum64: the same bytes have the same sum wherever they stand") {
  const std::vector<std::byte> all = regular(100);
  std::vector<std::byte> shifted(103);
  std::copy(all.begin(), all.end(), shifted.begin() + 3);
  CHECK(checksum64(all) == checksum64(std::span(shifted).subspan(3)));
}

}  // namespace
}  // namespace outrigger::testing
