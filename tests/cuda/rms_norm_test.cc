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

// Each operation alone by the host, the device's as one launch.
void check_panels(size_t width, size_t tokens, bool twice, float extreme) {
  CAPTURE(width, tokens, twice, extreme);
  std::vector<float> values = normal_floats(tokens * width, 1, 3);
  values[width / 2] = extreme;
  const size_t floats = tokens * width * sizeof(float), panel_bytes = activation_panel_bytes(tokens, width);
  TwinBytes src(values), weight(normal_floats(width, 2)), dst(floats), panel(panel_bytes), lost(floats), lost_panel(panel_bytes);
  const auto norm = [&](bool device) { return RmsNormArgs{src.on(device), weight.on(device), dst.on(device), tokens, width, 1e-5f}; };
  const auto quantize = [&](bool device) { return QuantizeArgs{dst.on(device), width, panel.on<std::byte>(device), tokens, width}; };
  const auto remainder = [&](bool device) { return RemainderArgs{quantize(device), lost.on(device)}; };
  const auto again = [&](bool device) { return QuantizeArgs{lost.on(device), width, lost_panel.on<std::byte>(device), tokens, width}; };
  NormedPanels all{norm(true), quantize(true), {}, {}};
  if (twice) all.lost = remainder(true), all.lost_panel = again(true);
  REQUIRE(launch_normed(emulated_launcher(), all) == kCudaOk);
  std::vector<DeviceOp> alone = {norm(false), quantize(false)};
  if (twice) alone.push_back(remainder(false)), alone.push_back(again(false));
  run_on_host(alone);
  for (TwinBytes* bytes : {&dst, &panel, &lost, &lost_panel}) REQUIRE(bytes->is_equal());
}

TEST_CASE("cuda rms_norm: with the panels that are made of it, once or twice, each has the host's bits") {
  for (const bool twice : {false, true}) {
    for (const size_t width : {544, 576, 2048}) {
      for (const size_t tokens : {1, 3, 8, 9}) check_panels(width, tokens, twice, 0.5f);
    }
    for (const size_t width : {4128, 8192, 8224, 14336}) check_panels(width, 1, twice, 0.5f);
  }
  for (const float extreme : {0.0f, 1e25f, std::numeric_limits<float>::infinity(), std::nanf("")}) {
    for (const bool twice : {false, true}) check_panels(576, 2, twice, extreme);
  }
}

}  // namespace
}  // namespace outrigger::cuda
