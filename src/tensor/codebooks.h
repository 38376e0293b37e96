// The values that codes of the codebook formats stand for, in steps of their scale.
#ifndef OUTRIGGER_SRC_TENSOR_CODEBOOKS_H_
#define OUTRIGGER_SRC_TENSOR_CODEBOOKS_H_

#include <cstdint>

namespace outrigger {

/// IQ4_NL and IQ4_XS: closer together around zero.
inline constexpr int8_t kNonLinearValues[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

/// MXFP4: the sixteen 4-bit floats (sign, 2 bits of exponent, 1 of mantissa), doubled so that they are integers; the scale is halved for
/// it. The reference keeps them as integers, which have no negative zero; nor does code 8 here.
inline constexpr int8_t kFloat4Doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

/// Ours, of two, three and four bits: closer together in the middle, and more so on one side, since a block may have them the other way
/// round, with a scale below zero. Fitted to weights of a language model as its quantiser sees them
/// (docs/design/0019-levels-and-groups.md). They end at 29 and 61, so that the sums of 16 bits that AVX2 multiplies into hold four quads'
/// products, or two's.
inline constexpr int8_t kOwnValues2[16] = {0, 9, 17, 29};
inline constexpr int8_t kOwnValues3[16] = {0, 5, 9, 12, 15, 18, 22, 29};
inline constexpr int8_t kOwnValues4[16] = {0, 6, 11, 15, 19, 22, 25, 28, 31, 34, 37, 40, 44, 48, 53, 61};

/// Which of them a format has. An enumeration, since with gcc 12's sanitizers no address can be compared while compiling.
enum class Codebook : uint8_t { kNone, kNonLinear, kFloat4Doubled, kOwn2, kOwn3, kOwn4 };

/// Sixteen values, of which zeros at the end may belong to no code. Precondition: not kNone.
constexpr const int8_t* codebook_values(Codebook codebook) {
  switch (codebook) {
    case Codebook::kNonLinear:
      return kNonLinearValues;
    case Codebook::kOwn2:
      return kOwnValues2;
    case Codebook::kOwn3:
      return kOwnValues3;
    case Codebook::kOwn4:
      return kOwnValues4;
    default:
      return kFloat4Doubled;
  }
}

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_TENSOR_CODEBOOKS_H_
