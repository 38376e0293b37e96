// bf16 activations by a kernel.
#include <limits>

#include "tests/cuda/kernel_check.h"

namespace outrigger::cuda {
namespace {

TEST_CASE("cuda round: the host's panel to the last byte, zeros behind each row included") {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  constexpr float kExtremes[] = {0, -0.0f, 1e-40f, -1e-40f, 3.4e38f, kInfinity, -kInfinity, 0x1.01p0f, 0x1.03p0f, 0x1p-126f};
  for (const size_t width : {1u, 2u, 31u, 33u, 64u, 700u}) {
    for (const size_t tokens : {1u, 3u, 9u}) {
      CAPTURE(width, tokens);
      std::vector<float> values = normal_floats(tokens * (width + 1), 1);
      for (size_t i = 0; i < values.size(); i += 3) values[i] = kExtremes[i / 3 % std::size(kExtremes)];
      for (size_t i = 10; i < values.size(); i += 50) values[i] = std::bit_cast<float>(0xff800001u);  // a NaN that is no infinity
      TwinBytes src(values), panel(bf16_panel_bytes(tokens, width) + 64);
      run_twice([&](bool device) { return RoundArgs{{src.on(device), width + 1, panel.on<std::byte>(device), width}, tokens}; });
      REQUIRE(panel.is_equal());
    }
  }
}

}  // namespace
}  // namespace outrigger::cuda
