// Our own formats: codes put where own_planes.h looks for them.
#include "src/tensor/encode_own.h"

#include <cstring>

namespace outrigger {
namespace {

constexpr size_t kGroup = 32;

// Bits [from, from + bits) of 32 codes as a plane of that many words.
void put_plane(const uint8_t* codes, int from, int bits, uint8_t* plane) {
  const auto mask = static_cast<uint8_t>((1 << bits) - 1);
  std::memset(plane, 0, 4 * static_cast<size_t>(bits));
  for (size_t k = 0; k < kGroup; ++k) {
    const size_t quad = k / 4, width = static_cast<size_t>(bits);
    plane[quad % width * 4 + k % 4] |= static_cast<uint8_t>((codes[k] >> from & mask) << quad / width * width);
  }
}

}  // namespace

void encode_own_block(DType type, uint16_t scale, uint16_t minimum, const uint8_t* codes, std::byte* dst) {
  auto* bytes = reinterpret_cast<uint8_t*>(dst);
  std::memcpy(bytes, &scale, 2);
  std::memcpy(bytes + 2, &minimum, 2);
  uint8_t* plane = bytes + 4;
  const int bits = own_bits(type), low = bits == 4 ? 4 : 2, high = bits - low;
  for (size_t group = 0; group < traits(type).block_elements; group += kGroup, plane += 4 * (low + high)) {
    put_plane(codes + group, 0, low, plane);
    if (high > 0) put_plane(codes + group, low, high, plane + 4 * low);
  }
}

}  // namespace outrigger
