// float16 and bfloat16: every bit pattern there is, and the roundings on the way back.
#include "src/tensor/half.h"

#include <cmath>
#include <limits>

#include "tests/support/catch.h"

namespace outrigger {
namespace {

// The definition in doubles, which hold every float16 exactly.
double f16_value(uint16_t bits) {
  const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
  const double magnitude = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return bits & 0x8000 ? -magnitude : magnitude;
}

TEST_CASE("half: every float16 becomes the float it stands for, and comes back") {
  for (uint32_t i = 0; i < 65536; ++i) {
    const auto bits = static_cast<uint16_t>(i);
    const float value = f16_to_float(bits);
    CAPTURE(bits, value);
    if ((bits & 0x7c00) != 0x7c00) {
      if (double{value} != f16_value(bits) || std::signbit(value) != (bits >= 0x8000)) FAIL();
    } else if (bits & 0x3ff) {
      if (!std::isnan(value) || !std::isnan(f16_to_float(float_to_f16(value)))) FAIL();
      continue;
    } else if (value != (bits & 0x8000 ? -INFINITY : INFINITY)) {
      FAIL();
    }
    if (float_to_f16(value) != bits) FAIL();
  }
}

TEST_CASE("half: what lies between two float16 goes to the nearer one, and a tie to the even one") {
  for (uint32_t i = 0; i < 0x7bff; ++i) {
    const auto low = static_cast<uint16_t>(i), high = static_cast<uint16_t>(i + 1);
    const float middle = (f16_to_float(low) + f16_to_float(high)) / 2;  // exact: 12 bits of mantissa
    CAPTURE(low);
    if (float_to_f16(middle) != (low % 2 == 0 ? low : high)) FAIL();
    if (float_to_f16(std::nextafter(middle, 0.0f)) != low) FAIL();
    if (float_to_f16(std::nextafter(middle, 1e9f)) != high) FAIL();
    if (float_to_f16(-middle) != (0x8000 | (low % 2 == 0 ? low : high))) FAIL();
  }
}

TEST_CASE("half: the ends of the range round as IEEE 754 has it") {
  CHECK(float_to_f16(65504.0f) == 0x7bff);
  CHECK(float_to_f16(std::nextafter(65520.0f, 0.0f)) == 0x7bff);
  CHECK(float_to_f16(65520.0f) == 0x7c00);
  CHECK(float_to_f16(-65520.0f) == 0xfc00);
  CHECK(float_to_f16(std::numeric_limits<float>::max()) == 0x7c00);
  CHECK(float_to_f16(-std::numeric_limits<float>::infinity()) == 0xfc00);
  CHECK(float_to_f16(0x1p-25f) == 0x0000);
  CHECK(float_to_f16(std::nextafter(0x1p-25f, 1.0f)) == 0x0001);
  CHECK(float_to_f16(std::numeric_limits<float>::denorm_min()) == 0x0000);
  CHECK(float_to_f16(-0.0f) == 0x8000);
}

TEST_CASE("half: a bfloat16 is the upper half of a float") {
  CHECK(bf16_to_float(0x3f80) == 1.0f);
  CHECK(bf16_to_float(0xc2f7) == -123.5f);
  CHECK(bf16_to_float(0x0001) == 0x1p-133f);
  CHECK(bf16_to_float(0x7f80) == INFINITY);
  CHECK(std::isnan(bf16_to_float(0x7fc0)));
}

}  // namespace
}  // namespace outrigger
