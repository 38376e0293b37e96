// The kernel that adds a bias.
#include "tests/cuda/kernel_check.h"

namespace outrigger::cuda {
namespace {

TEST_CASE("cuda add_bias: one float addition for each element, and nothing beside them") {
  for (const size_t rows : {1u, 5u, 255u, 256u, 257u, 700u}) {
    for (const size_t tokens : {1u, 3u, 9u}) {
      CAPTURE(rows, tokens);
      TwinBytes bias(normal_floats(rows, 1)), dst(normal_floats(tokens * (rows + 3), 2));
      run_twice([&](bool device) { return AddBiasArgs{bias.on(device), dst.on(device), rows + 3, rows, tokens}; });
      REQUIRE(dst.is_equal());
    }
  }
}

}  // namespace
}  // namespace outrigger::cuda
