// The values that 4-bit codes of the codebook formats stand for, in steps of their scale.
#ifndef OUTRIGGER_SRC_TENSOR_CODEBOOKS_H_
#define OUTRIGGER_SRC_TENSOR_CODEBOOKS_H_

#include <cstdint>

namespace outrigger {

/// IQ4_NL and IQ4_XS: closer together around zero.
inline constexpr int8_t kNonLinearValues[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

/// MXFP4: the sixteen 4-bit floats (sign, 2 bits of exponent, 1 of mantissa), doubled so that they are integers; the scale is halved for
/// it. The reference keeps them as integers, which have no negative zero; nor does code 8 here.
inline constexpr int8_t kFloat4Doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

/// Which of them a format has. An enumeration, since with gcc 12's sanitizers no address can be compared while compiling.
enum class Codebook : uint8_t { kNone, kNonLinear, kFloat4Doubled };

/// The sixteen values. Precondition: not kNone.
constexpr const int8_t* codebook_values(Codebook codebook) { return codebook == Codebook::kNonLinear ? kNonLinearValues : kFloat4Doubled; }

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_TENSOR_CODEBOOKS_H_
