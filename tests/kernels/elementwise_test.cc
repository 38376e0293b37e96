// RMSNorm, RoPE and SwiGLU: the definitions against formulas in double, and each level against the definition, bit for bit.
#include <cmath>
#include <limits>

#include "src/base/thread_team.h"
#include "src/kernels/exp_ref.h"
#include "src/kernels/rms_norm.h"
#include "src/kernels/rope.h"
#include "src/kernels/silu_mul.h"
#include "tests/kernels/kernel_case.h"
#include "tests/support/catch.h"

namespace outrigger {
namespace {

double ulps_apart(float a, float b) { return std::fabs(double{a} - b) / (std::fabs(double{b}) * 0x1p-23 + 1e-36); }

std::vector<float> normed(void (*version)(const RmsNormArgs&), const std::vector<float>& src, const std::vector<float>& weight,
                          float epsilon = 1e-5f) {
  std::vector<float> dst(src.size());
  version({src.data(), weight.data(), dst.data(), src.size() / weight.size(), weight.size(), epsilon});
  return dst;
}

// The formula in double.
std::vector<float> normed_exactly(const std::vector<float>& src, const std::vector<float>& weight, double epsilon) {
  std::vector<float> dst(src.size());
  for (size_t t = 0; t < src.size(); t += weight.size()) {
    double squares = 0;
    for (size_t i = 0; i < weight.size(); ++i) squares += double{src[t + i]} * src[t + i];
    const double scale = 1 / std::sqrt(squares / static_cast<double>(weight.size()) + epsilon);
    for (size_t i = 0; i < weight.size(); ++i) dst[t + i] = static_cast<float>(weight[i] * (src[t + i] * scale));
  }
  return dst;
}

TEST_CASE("RmsNorm: the definition is within 3 ulp of the formula, and every level has its bits at every width") {
  for (size_t width : {1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 40, 48, 63, 64, 65, 575, 576, 577, 4096, 16384}) {
    const std::vector<float> src = normal_floats(3 * width, 1), weight = normal_floats(width, 2);
    const std::vector<float> truth = normed_exactly(src, weight, 1e-5f), defined = normed(rms_norm_ref, src, weight);
    double worst = 0;
    for (size_t i = 0; i < defined.size(); ++i) worst = std::max(worst, ulps_apart(defined[i], truth[i]));
    CAPTURE(width, worst);
    REQUIRE(worst <= 3);
    for (SimdLevel level : levels()) {
      const AtLevel at(level);
      CAPTURE(simd_level_name(level));
      REQUIRE(same_bits(normed(rms_norm, src, weight), defined));
    }
  }
}

TEST_CASE("RmsNorm: a token's bits do not depend on the tokens beside it") {
  constexpr size_t kWidth = 577;
  const std::vector<float> src = normal_floats(7 * kWidth, 3), weight = normal_floats(kWidth, 4);
  for (SimdLevel level : levels()) {
    const AtLevel at(level);
    const std::vector<float> together = normed(rms_norm, src, weight);
    for (size_t t = 0; t < 7; ++t) {
      const std::vector<float> alone = normed(rms_norm, {&src[t * kWidth], &src[t * kWidth] + kWidth}, weight);
      REQUIRE(alone == std::vector<float>(&together[t * kWidth], &together[t * kWidth] + kWidth));
    }
  }
}

TEST_CASE("RmsNorm: a zero vector stays zero, a NaN spreads, and the bound notices a missing epsilon") {
  const std::vector<float> weight(64, 2.0f);
  for (SimdLevel level : levels()) {
    const AtLevel at(level);
    REQUIRE(normed(rms_norm, std::vector<float>(64, 0.0f), weight) == std::vector<float>(64, 0.0f));
    std::vector<float> src(64, 1.0f);
    REQUIRE(ulps_apart(normed(rms_norm, src, weight)[0], normed_exactly(src, weight, 1e-30)[0]) > 3);
    src[63] = std::numeric_limits<float>::quiet_NaN();
    REQUIRE(std::isnan(normed(rms_norm, src, weight)[0]));
  }
}

std::vector<float> activated(void (*version)(const SiluMulArgs&), const std::vector<float>& gate, const std::vector<float>& up) {
  std::vector<float> dst(gate.size());
  version({gate.data(), up.data(), dst.data(), gate.size()});
  return dst;
}

TEST_CASE("Exp: within 1 ulp of the exact value, and 1.5 ulp off is noticed") {
  double worst = 0, worst_if_off = 0;
  for (float x = -87; x < 88.7f; x += 0.0037f) {
    const double truth = std::exp(double{x}), ulp = truth * 0x1p-23;
    worst = std::max(worst, std::fabs(exp_ref(x) - truth) / ulp);
    worst_if_off = std::max(worst_if_off, std::fabs(exp_ref(x) * (1 + 0x1.8p-23) - truth) / ulp);
  }
  REQUIRE(worst <= 1);
  REQUIRE(worst_if_off > 1);
  REQUIRE(exp_ref(0) == 1);
  REQUIRE(exp_ref(-std::numeric_limits<float>::infinity()) == 0);
  REQUIRE(exp_ref(std::numeric_limits<float>::infinity()) == std::numeric_limits<float>::infinity());
  REQUIRE(exp_ref(-104) == 0);
  REQUIRE(exp_ref(-100) > 0);  // subnormal
}

TEST_CASE("SiluMul: the definition is within 4 ulp of the formula over the whole range, and 5 ulp off is noticed") {
  std::vector<float> gate = normal_floats(20000, 5, 20), up = normal_floats(20000, 6);
  for (size_t i = 0; i < 2000; ++i) gate[i] = (static_cast<float>(i) - 1000) * 0.11f;
  const std::vector<float> dst = activated(silu_mul_ref, gate, up);
  double worst = 0, worst_if_off = 0;
  for (size_t i = 0; i < dst.size(); ++i) {
    const float truth = static_cast<float>(gate[i] / (1 + std::exp(-double{gate[i]})) * up[i]);
    worst = std::max(worst, ulps_apart(dst[i], truth));
    worst_if_off = std::max(worst_if_off, ulps_apart(dst[i] * (1 + 5 * 0x1p-23f), truth));
  }
  CAPTURE(worst);
  REQUIRE(worst <= 4);
  REQUIRE(worst_if_off > 4);
}

TEST_CASE("SiluMul: every level has the definition's bits, at the ends of the range and where results are subnormal too") {
  std::vector<float> gate, up;
  for (uint32_t bits = 0; bits < 0xffff0000u; bits += 4099) {  // every exponent, both signs, infinities and NaN
    gate.push_back(std::bit_cast<float>(bits));
    up.push_back(1 + static_cast<float>(bits % 7) / 8);
  }
  const std::vector<float> defined = activated(silu_mul_ref, gate, up);
  for (SimdLevel level : levels()) {
    const AtLevel at(level);
    CAPTURE(simd_level_name(level));
    REQUIRE(same_bits(activated(silu_mul, gate, up), defined));
    // As a team's threads run, which take subnormal numbers for zero.
    const std::unique_ptr<ThreadTeam> team = ThreadTeam::create(1).value();
    std::vector<float> flushed, defined_flushed;
    team->run([&](const TeamMember&) { flushed = activated(silu_mul, gate, up), defined_flushed = activated(silu_mul_ref, gate, up); });
    REQUIRE(same_bits(flushed, defined_flushed));
    REQUIRE_FALSE(same_bits(flushed, defined));
  }
}

TEST_CASE("SiluMul: an element's bits do not depend on its place or on the count") {
  const std::vector<float> gate = normal_floats(67, 7, 4), up = normal_floats(67, 8);
  for (SimdLevel level : levels()) {
    const AtLevel at(level);
    const std::vector<float> together = activated(silu_mul, gate, up);
    for (size_t i = 0; i < gate.size(); ++i) REQUIRE(activated(silu_mul, {gate[i]}, {up[i]})[0] == together[i]);
  }
}

TEST_CASE("SiluMul: the ends of the range are the definition's") {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> gate = {inf, -200, 200, nan, 0, -88.9f, 1e-40f}, up(gate.size(), 1.0f);
  for (SimdLevel level : levels()) {
    const AtLevel at(level);
    const std::vector<float> dst = activated(silu_mul, gate, up);
    REQUIRE(dst[0] == inf);
    REQUIRE(dst[1] == 0);
    REQUIRE(dst[2] == 200);
    REQUIRE(std::isnan(dst[3]));
    REQUIRE(dst[4] == 0);
    REQUIRE(std::fabs(dst[5]) < 1e-36f);
    REQUIRE(std::fabs(dst[6]) < 1e-36f);
  }
}

TEST_CASE("Rope: every level gives the definition's bits for both styles, and leaves what is beyond the rotary part") {
  for (RopeStyle style : {RopeStyle::kInterleaved, RopeStyle::kHalves}) {
    for (size_t rotary_dim : {2, 4, 6, 8, 14, 16, 18, 32, 34, 64, 80, 128}) {
      for (size_t extra : {0, 16}) {
        constexpr size_t kTokens = 3, kHeads = 2;
        const size_t head_dim = rotary_dim + extra, stride = kHeads * head_dim + 5;
        std::vector<float> cos_sin(kTokens * rotary_dim);
        for (size_t i = 0; i < cos_sin.size(); i += 2) {
          cos_sin[i] = std::cos(static_cast<float>(i + 1));
          cos_sin[i + 1] = std::sin(static_cast<float>(i + 1));
        }
        const std::vector<float> before = normal_floats(kTokens * stride, 9);
        const auto turned = [&](void (*version)(const RopeArgs&)) {
          std::vector<float> x = before;
          version({x.data(), stride, kTokens, kHeads, head_dim, rotary_dim, cos_sin.data(), style});
          return x;
        };
        const std::vector<float> truth = turned(rope_ref);
        REQUIRE(truth[rotary_dim - 1] != before[rotary_dim - 1]);
        if (extra) REQUIRE(truth[rotary_dim] == before[rotary_dim]);
        for (SimdLevel level : levels()) {
          const AtLevel at(level);
          CAPTURE(rotary_dim, extra, simd_level_name(level));
          REQUIRE(turned(rope) == truth);
        }
      }
    }
  }
}

TEST_CASE("Rope: a quarter turn moves the first of a pair into the second") {
  float x[4] = {1, 2, 3, 4};
  const float quarter[4] = {0, 1, 0, 1};
  rope({x, 4, 1, 1, 4, 4, quarter, RopeStyle::kInterleaved});
  REQUIRE(std::vector<float>(x, x + 4) == std::vector<float>{-2, 1, -4, 3});
  float y[4] = {1, 2, 3, 4};
  rope({y, 4, 1, 1, 4, 4, quarter, RopeStyle::kHalves});
  REQUIRE(std::vector<float>(y, y + 4) == std::vector<float>{-3, -4, 1, 2});
}

}  // namespace
}  // namespace outrigger
