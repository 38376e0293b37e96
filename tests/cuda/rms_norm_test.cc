// RMSNorm by kernels.
#include <limits>

#include "tests/cuda/kernel_check.h"

namespace outrigger::cuda {
namespace {

void check(size_t width, size_t tokens) {
  CAPTURE(width, tokens);
  TwinBytes src(normal_floats(tokens * width, 1, 3)), weight(normal_floats(width, 2)), dst(tokens * width * sizeof(float));
  run_twice([&](bool device) { return RmsNormArgs{src.on(device), weight.on(device), dst.on(device), tokens, width, 1e-5f}; });
  REQUIRE(dst.is_equal());
  run_twice([&](bool device) { return RmsNormArgs{src.on(device), weight.on(device), src.on(device), tokens, width, 1e-5f}; });
  REQUIRE(src.is_equal());
}

TEST_CASE("cuda rms_norm: the host's bits for short rows, as of single heads, and in place") {
  for (const size_t width : {1, 2, 31, 32, 33, 64, 100, 128, 256, 300, 512}) {
    for (const size_t tokens : {1, 3, 9, 33}) check(width, tokens);
  }
}

TEST_CASE("cuda rms_norm: the host's bits for long rows, longer than shared memory among them") {
  for (const size_t width : {513, 576, 2047, 2049, 4096, 5000, 8191, 8192, 8193, 16384, 20001}) {
    for (const size_t tokens : {1, 3}) check(width, tokens);
  }
}

TEST_CASE("cuda rms_norm: zeros, the smallest and the largest values, and what is not a number") {
  for (const size_t width : {64, 600}) {
    for (const float value : {0.0f, -0.0f, 1e-42f, 1e-25f, 1e25f, std::numeric_limits<float>::infinity(), std::nanf("")}) {
      CAPTURE(width, value);
      std::vector<float> src = normal_floats(width, 1), dst(width), wanted(width);
      const std::vector<float> weight = normal_floats(width, 2);
      if (value == 0) std::fill(src.begin(), src.end(), value);
      src[width - 3] = value;
      run_twice([&](bool device) { return RmsNormArgs{src.data(), weight.data(), device ? dst.data() : wanted.data(), 1, width, 1e-5f}; });
      REQUIRE(same_bits(dst, wanted));
    }
  }
}

}  // namespace
}  // namespace outrigger::cuda
