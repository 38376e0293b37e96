// Int8 activations: every level gives the definition's bytes, and the codes are the nearest ones.
#include "src/kernels/activations.h"

#include <cmath>
#include <limits>

#include "src/kernels/panel.h"
#include "tests/kernels/kernel_case.h"
#include "tests/support/catch.h"

namespace outrigger {
namespace {

using Version = void (*)(const QuantizeArgs&, size_t, size_t);

AlignedBytes quantise(Version version, const std::vector<float>& src, size_t tokens, size_t width, size_t pieces = 1) {
  AlignedBytes panel(activation_panel_bytes(tokens, width));
  const QuantizeArgs args = {src.data(), width, panel.data(), tokens, width};
  for (size_t i = 0; i < pieces; ++i) version(args, tokens * i / pieces, tokens * (i + 1) / pieces);
  return panel;
}

bool same(const AlignedBytes& a, const AlignedBytes& b) { return std::memcmp(a.data(), b.data(), a.size()) == 0; }

TEST_CASE("Activations: every level gives the definition's bytes for any number of tokens and split among threads") {
  for (size_t width : {32, 96, 576}) {
    for (size_t tokens = 1; tokens <= 18; ++tokens) {
      std::vector<float> src = normal_floats(tokens * width, static_cast<unsigned>(tokens), 3);
      src[width / 2] = 1e30f;
      for (size_t k = 0; k < 32; ++k) src[k] *= 1e-32f;
      const AlignedBytes truth = quantise(quantize_activations_ref, src, tokens, width);
      for (SimdLevel level : levels()) {
        const AtLevel at(level);
        CAPTURE(width, tokens, simd_level_name(level));
        REQUIRE(same(quantise(quantize_activations, src, tokens, width), truth));
        REQUIRE(same(quantise(quantize_activations, src, tokens, width, 3), truth));
      }
    }
  }
}

TEST_CASE("Activations: halves round to even, the largest becomes 127, and the sums are those of the codes") {
  std::vector<float> src(32, 0.0f);
  src[0] = -127;  // a scale of exactly 1
  src[1] = 0.5f;
  src[2] = 1.5f;
  src[3] = -2.5f;
  src[31] = 126.5f;
  for (SimdLevel level : levels()) {
    const AtLevel at(level);
    const AlignedBytes panel = quantise(quantize_activations, src, 1, 32);
    int8_t codes[32];
    float scale, scaled_sum;
    int32_t negative_sum;
    const PanelToken token(panel.data(), 1, 32, 0);
    std::memcpy(codes, token.codes(0), 32);
    std::memcpy(&scale, token.scale(0), 4);
    std::memcpy(&scaled_sum, token.scaled_sum(0), 4);
    std::memcpy(&negative_sum, token.negative_sum(0), 4);
    REQUIRE(scale == 1);
    REQUIRE(codes[0] == -127);
    REQUIRE(codes[1] == 0);
    REQUIRE(codes[2] == 2);
    REQUIRE(codes[3] == -2);
    REQUIRE(codes[31] == 126);
    int16_t negative_halves[2];
    std::memcpy(negative_halves, token.negative_halves(0), 4);
    REQUIRE(negative_sum == 1);
    REQUIRE(scaled_sum == -1);
    REQUIRE(negative_halves[0] == 127);
    REQUIRE(negative_halves[1] == -126);
  }
}

TEST_CASE("Activations: what is not finite gives a scale of NaN, what is too small to matter zeros") {
  for (float value : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                      std::numeric_limits<float>::quiet_NaN(), 1e-40f, 0x1p-91f, 0.0f}) {
    std::vector<float> src(32, 0.0f);
    src[17] = value;
    const AlignedBytes truth = quantise(quantize_activations_ref, src, 1, 32);
    for (SimdLevel level : levels()) {
      const AtLevel at(level);
      const AlignedBytes panel = quantise(quantize_activations, src, 1, 32);
      const PanelToken token(panel.data(), 1, 32, 0);
      float scale;
      std::memcpy(&scale, token.scale(0), 4);
      if (std::isfinite(value)) {
        REQUIRE(scale == 0);
        REQUIRE(same(panel, truth));
      } else {
        REQUIRE(std::isnan(scale));
      }
      for (size_t i = 0; i < 32; ++i) REQUIRE(token.codes(0)[i] == std::byte{0});
    }
  }
}

TEST_CASE("Activations: codes, and the remainder's codes, give the numbers back to about 15 bits; the codes alone do not") {
  std::vector<float> src = normal_floats(3 * 96, 11), remainder(src.size());
  AlignedBytes panel(activation_panel_bytes(3, 96)), second(activation_panel_bytes(3, 96));
  const QuantizeArgs args{src.data(), 96, panel.data(), 3, 96};
  quantize_activations(args, 0, 3);
  quantization_remainder(args, 0, 3, remainder.data());
  quantize_activations({remainder.data(), 96, second.data(), 3, 96}, 0, 3);
  const auto value = [](AlignedBytes& from, size_t t, size_t k) {
    const PanelToken token(from.data(), 3, 96, t);
    float scale;
    std::memcpy(&scale, token.scale(k / 32), 4);
    return scale * static_cast<float>(static_cast<int8_t>(token.codes(k / 32)[k % 32]));
  };
  float worst_one = 0, worst_both = 0;
  for (size_t t = 0; t < 3; ++t) {
    for (size_t k = 0; k < 96; ++k) {
      const float x = src[t * 96 + k], one = value(panel, t, k);
      REQUIRE(remainder[t * 96 + k] == x - one);
      worst_one = std::max(worst_one, std::fabs(x - one));
      worst_both = std::max(worst_both, std::fabs(x - one - value(second, t, k)));
    }
  }
  REQUIRE(worst_both < 1e-4f);
  REQUIRE(worst_one > 3e-3f);
}

}  // namespace
}  // namespace outrigger
