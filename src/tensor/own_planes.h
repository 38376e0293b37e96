// Where a code lies in the planes of our own formats. Internal to this room.
//
// A plane of b bits is b words of four bytes. Quad q = k / 4 of the 32 lies in word q % b, at bit q / b * b of byte k % 4: as in
// packed_layout.h, so that packing moves whole words.
#ifndef OUTRIGGER_SRC_TENSOR_OWN_PLANES_H_
#define OUTRIGGER_SRC_TENSOR_OWN_PLANES_H_

#include <cstdint>

namespace outrigger {

inline int part_of_code(const uint8_t* plane, int bits, int k) {
  const int quad = k / 4;
  return plane[quad % bits * 4 + k % 4] >> quad / bits * bits & ((1 << bits) - 1);
}

/// Code k of 32, whose planes of low bits and of high ones begin at `plane`.
template <int kLow, int kHigh>
int own_code(const uint8_t* plane, int k) {
  int code = part_of_code(plane, kLow, k);
  if constexpr (kHigh > 0) code |= part_of_code(plane + 4 * kLow, kHigh, k) << kLow;
  return code;
}

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_TENSOR_OWN_PLANES_H_
