// Int8 activations by kernels.
#include <limits>

#include "tests/cuda/kernel_check.h"

namespace outrigger::cuda {
namespace {

std::vector<float> with_extremes(size_t count, unsigned seed) {
  std::vector<float> values = normal_floats(count, seed);
  for (size_t i = 32; i < 64 && i < count; ++i) values[i] = static_cast<float>(i) - 47.5f;  // ties, with 127 among them
  if (count > 33) values[33] = 127;
  for (size_t i = 64; i < 96 && i < count; ++i) values[i] = i % 3 == 0 ? -0.0f : 0;
  for (size_t i = 96; i < 128 && i < count; ++i) values[i] *= 0x1p-92f;  // about the least that is not taken for zero
  if (count > 130) values[130] = 3e38f;
  if (count > 170) values[170] = std::numeric_limits<float>::infinity();
  if (count > 200) values[200] = -std::numeric_limits<float>::quiet_NaN();
  return values;
}

TEST_CASE("cuda quantize: the host's panel to the last byte, and nothing beyond it") {
  for (const size_t width : {32u, 64u, 288u, 1024u}) {
    for (const size_t tokens : {1u, 3u, 8u, 9u, 33u}) {
      CAPTURE(width, tokens);
      TwinBytes src(with_extremes(tokens * (width + 5), 1)), panel(activation_panel_bytes(tokens, width) + 64);
      run_twice([&](bool device) { return QuantizeArgs{src.on(device), width + 5, panel.on<std::byte>(device), tokens, width}; });
      REQUIRE(panel.is_equal());
    }
  }
}

}  // namespace
}  // namespace outrigger::cuda
