// The exponential that the vector versions share: its range reduction and polynomial.
#ifndef OUTRIGGER_SRC_KERNELS_EXP_CONSTANTS_H_
#define OUTRIGGER_SRC_KERNELS_EXP_CONSTANTS_H_

namespace outrigger {

// exp(x) = 2^n * exp(r) with n = round(x / ln 2) and |r| <= ln 2 / 2. ln 2 in two parts, the first with so few bits that n times it is
// exact.
inline constexpr float kLog2E = 0x1.715476p+0f;
inline constexpr float kLn2High = 0x1.63p-1f;
inline constexpr float kLn2Low = -0x1.bd0106p-13f;
// exp(r) = 1 + r + r^2 (c0 + c1 r + ... + c4 r^4): fitted for the least relative error, 3e-9, a fortieth of a unit in the last place.
inline constexpr float kExpC0 = 0x1.fffffcp-2f;
inline constexpr float kExpC1 = 0x1.555492p-3f;
inline constexpr float kExpC2 = 0x1.5558f2p-5f;
inline constexpr float kExpC3 = 0x1.123a2p-7f;
inline constexpr float kExpC4 = 0x1.6a23d4p-10f;
// Beyond these the result is infinity or zero: n stays in the range of two exponents.
inline constexpr float kExpMost = 89.0f;
inline constexpr float kExpLeast = -104.0f;

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_EXP_CONSTANTS_H_
