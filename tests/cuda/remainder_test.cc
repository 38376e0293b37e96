// What quantisation lost, by a kernel.
#include "tests/cuda/kernel_check.h"

namespace outrigger::cuda {
namespace {

TEST_CASE("cuda remainder: the host's bits, beside the source and in its place") {
  for (const size_t width : {32u, 288u, 1024u}) {
    for (const size_t tokens : {1u, 3u, 8u, 9u, 33u}) {
      CAPTURE(width, tokens);
      const std::vector<float> values = normal_floats(tokens * (width + 5), 1);
      TwinBytes src(values), remainder(values.size() * sizeof(float)), panel(activation_panel_bytes(tokens, width));
      const auto quantize = [&](bool device) {
        return QuantizeArgs{src.on(device), width + 5, panel.on<std::byte>(device), tokens, width};
      };
      run_twice(quantize);
      run_twice([&](bool device) { return RemainderArgs{quantize(device), remainder.on(device)}; });
      REQUIRE(remainder.is_equal());
      run_twice([&](bool device) { return RemainderArgs{quantize(device), src.on(device)}; });
      REQUIRE(src.is_equal());
    }
  }
}

}  // namespace
}  // namespace outrigger::cuda
