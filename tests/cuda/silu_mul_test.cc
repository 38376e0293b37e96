// SwiGLU's middle by a kernel.
#include <limits>

#include "tests/cuda/kernel_check.h"

namespace outrigger::cuda {
namespace {

TEST_CASE("cuda silu_mul: the host's bits, from the smallest gates to the largest") {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const size_t count : {1u, 31u, 256u, 257u, 3000u}) {
    CAPTURE(count);
    std::vector<float> values = normal_floats(count, 1, 20);
    // Nothing subnormal, which the host's teams flush to zero.
    constexpr float kExtremes[] = {0, -0.0f, 1e-30f, -1e-30f, 88, 89, 90, -87, -88, -89, -103, -104, -105, 3e38f, -3e38f, kInfinity};
    for (size_t i = 5; i < count; i += 7) values[i] = kExtremes[i / 7 % std::size(kExtremes)];
    TwinBytes gate(values), up(normal_floats(count, 2)), dst(count * sizeof(float));
    run_twice([&](bool device) { return SiluMulArgs{gate.on(device), up.on(device), dst.on(device), count}; });
    REQUIRE(dst.is_equal());
    run_twice([&](bool device) { return SiluMulArgs{gate.on(device), up.on(device), gate.on(device), count}; });
    REQUIRE(gate.is_equal());
  }
}

TEST_CASE("cuda silu_mul: with the panel that is made of it, in place and beside the gates, both have the host's bits") {
  for (const size_t width : {32u, 96u, 256u, 288u, 1536u}) {
    for (const size_t tokens : {1u, 3u, 9u}) {
      for (const bool in_place : {false, true}) {
        CAPTURE(width, tokens, in_place);
        const size_t count = tokens * width;
        TwinBytes gate(normal_floats(count, 1, 20)), up(normal_floats(count, 2)), beside(count * sizeof(float));
        TwinBytes panel(activation_panel_bytes(tokens, width)), &dst = in_place ? gate : beside;
        const auto silu = [&](bool device) { return SiluMulArgs{gate.on(device), up.on(device), dst.on(device), count}; };
        const auto quantize = [&](bool device) { return QuantizeArgs{dst.on(device), width, panel.on<std::byte>(device), tokens, width}; };
        REQUIRE(launch_silu(emulated_launcher(), silu(true), quantize(true)) == kCudaOk);
        run_on_host({silu(false), quantize(false)});
        REQUIRE(dst.is_equal());
        REQUIRE(panel.is_equal());
      }
    }
  }
}

TEST_CASE("cuda silu_mul: what is not a number stays so") {
  const float values[] = {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()};
  float dst[2] = {}, up[2] = {1, 1};
  REQUIRE(launch_op(emulated_launcher(), SiluMulArgs{values, up, dst, 2}) == kCudaOk);
  REQUIRE(std::isnan(dst[0]));
  float wanted[2];
  silu_mul({values, up, wanted, 2});
  REQUIRE(same_bits({dst, dst + 2}, {wanted, wanted + 2}));
}

}  // namespace
}  // namespace outrigger::cuda
