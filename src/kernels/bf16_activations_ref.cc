// bf16 activations: the definition.
#include <bit>
#include <cstring>

#include "src/kernels/bf16_activations.h"

namespace outrigger {
namespace {

uint16_t round_to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value), magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return static_cast<uint16_t>(bits >> 16 | 0x40);  // quiet: cutting a NaN off could leave an infinity
  if (magnitude < 0x00800000) return static_cast<uint16_t>(bits >> 16 & 0x8000);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

}  // namespace

void round_activations_ref(const Bf16Args& args, size_t token_begin, size_t token_end) {
  const size_t row_bytes = bf16_row_bytes(args.width);
  for (size_t t = token_begin; t < token_end; ++t) {
    std::byte* const row = args.panel + t * row_bytes;
    std::memset(row, 0, row_bytes);
    for (size_t k = 0; k < args.width; ++k) {
      const uint16_t bits = round_to_bf16(args.src[t * args.src_stride + k]);
      std::memcpy(row + k * 2, &bits, 2);
    }
  }
}

}  // namespace outrigger
