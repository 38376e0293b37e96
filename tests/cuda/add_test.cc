// The kernel that adds.
#include "tests/cuda/kernel_check.h"

namespace outrigger::cuda {
namespace {

TEST_CASE("cuda add: one float addition for each element, and nothing beside them") {
  for (const size_t width : {1u, 5u, 255u, 256u, 257u, 700u}) {
    for (const size_t tokens : {1u, 3u, 8u}) {
      CAPTURE(width, tokens);
      TwinBytes src(normal_floats(tokens * (width + 2), 1)), dst(normal_floats(tokens * (width + 3), 2));
      run_twice([&](bool device) { return AddArgs{src.on(device), width + 2, dst.on(device), width + 3, tokens, width}; });
      REQUIRE(dst.is_equal());
    }
  }
}

}  // namespace
}  // namespace outrigger::cuda
