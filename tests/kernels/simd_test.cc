// The instruction level: limits, names, and the environment variable, for which the tests' list runs this file again.
#include "src/kernels/simd.h"

#include <algorithm>
#include <cstdlib>
#include <string>

#include "tests/support/catch.h"

namespace outrigger {
namespace {

TEST_CASE("Simd: OUTRIGGER_SIMD limits the level from the start, and another value is ignored") {
  const char* text = std::getenv("OUTRIGGER_SIMD");
  const std::string most = text ? text : "";
  SimdLevel expected = best_simd_level();
  if (most == "none") expected = SimdLevel::kNone;
  if (most == "avx2") expected = std::min(expected, SimdLevel::kAvx2);
  REQUIRE(simd_level() == expected);
}

TEST_CASE("Simd: a limit holds until the next one and never exceeds what the processor has") {
  const SimdLevel before = simd_level();
  for (SimdLevel most : {SimdLevel::kNone, SimdLevel::kAvx2, SimdLevel::kAvx512}) {
    limit_simd_level(most);
    REQUIRE(simd_level() == std::min(most, best_simd_level()));
  }
  limit_simd_level(before);
}

TEST_CASE("Simd: levels have the names that the environment variable takes") {
  REQUIRE(std::string(simd_level_name(SimdLevel::kNone)) == "none");
  REQUIRE(std::string(simd_level_name(SimdLevel::kAvx2)) == "avx2");
  REQUIRE(std::string(simd_level_name(SimdLevel::kAvx512)) == "avx512");
}

}  // namespace
}  // namespace outrigger
