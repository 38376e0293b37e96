// Our own formats as Q4_1: codes from planes to nibbles.
#include "src/tensor/recode_own.h"

#include <cstring>

#include "src/tensor/own_form.h"
#include "src/tensor/own_planes.h"

namespace outrigger {
namespace {

constexpr size_t kScaleBytes = 4;  // a float16 scale and a float16 minimum, in this order in both
constexpr int kHalf = 16;          // elements whose codes are the low nibbles; the other half's are the high ones

template <int kLow, int kHigh>
void recode(const uint8_t* src, uint64_t blocks, size_t groups, uint8_t* dst) {
  constexpr size_t kPlanesBytes = 4 * (kLow + kHigh);
  for (uint64_t block = 0; block < blocks; ++block, src += kScaleBytes + groups * kPlanesBytes) {
    for (size_t group = 0; group < groups; ++group) {
      const uint8_t* const planes = src + kScaleBytes + group * kPlanesBytes;
      std::memcpy(dst, src, kScaleBytes);
      dst += kScaleBytes;
      for (int k = 0; k < kHalf; ++k)
        *dst++ = static_cast<uint8_t>(own_code<kLow, kHigh>(planes, k) | own_code<kLow, kHigh>(planes, k + kHalf) << 4);
    }
  }
}

}  // namespace

void recode_own_as_q4_1(DType type, const std::byte* src, uint64_t blocks, std::byte* dst) {
  const auto* from = reinterpret_cast<const uint8_t*>(src);
  auto* to = reinterpret_cast<uint8_t*>(dst);
  const size_t groups = traits(type).block_elements / 32;
  if (own_bits(type) == 2) return recode<2, 0>(from, blocks, groups, to);
  if (own_bits(type) == 3) return recode<2, 1>(from, blocks, groups, to);
  recode<4, 0>(from, blocks, groups, to);
}

}  // namespace outrigger
