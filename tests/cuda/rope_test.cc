// RoPE by a kernel.
#include "tests/cuda/kernel_check.h"

namespace outrigger::cuda {
namespace {

TEST_CASE("cuda rope: the host's bits in both styles, and elements beyond the turned ones stay") {
  struct Shape {
    size_t tokens, heads, head_dim, rotary_dim;
  };
  for (const Shape& s : {Shape{1, 1, 2, 2}, {1, 9, 64, 64}, {3, 2, 80, 32}, {8, 5, 7, 6}, {33, 3, 128, 128}}) {
    for (const RopeStyle style : {RopeStyle::kInterleaved, RopeStyle::kHalves}) {
      CAPTURE(s.tokens, s.heads, s.head_dim, s.rotary_dim, static_cast<int>(style));
      const size_t stride = s.heads * s.head_dim + 3;
      TwinBytes x(normal_floats(s.tokens * stride, 1)), cos_sin(normal_floats(s.tokens * s.rotary_dim, 2));
      run_twice([&](bool device) {
        return RopeArgs{x.on(device), stride, s.tokens, s.heads, s.head_dim, s.rotary_dim, cos_sin.on(device), style};
      });
      REQUIRE(x.is_equal());
    }
  }
}

}  // namespace
}  // namespace outrigger::cuda
