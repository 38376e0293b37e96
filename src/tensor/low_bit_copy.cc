// Low-bit copies: a unit of the copy's layout is a block of 64 columns, so a strip of rows is done unit by unit.
#include "src/tensor/low_bit_copy.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "src/tensor/encode_own.h"
#include "src/tensor/half.h"
#include "src/tensor/scale_search.h"

namespace outrigger {
namespace {

static_assert(kCopyColumns == kOwnBlock && kScaleLanes % kPackRows == 0);

constexpr size_t kMostBlockBytes = 4 + kOwnBlock / 2;  // of four bits

constexpr auto kAllAlike = [] {
  std::array<float, kOwnBlock> ones{};
  ones.fill(1);
  return ones;
}();

// Columns [column, column + 64) of up to kScaleLanes rows, as [64][kScaleLanes]. Rows that there are not are zeros.
void turn(PackedKind kind, const std::byte* src, uint64_t live, uint64_t columns, uint64_t column, float* dst) {
  float row[kOwnBlock] = {};
  for (uint64_t lane = 0; lane < kScaleLanes; ++lane) {
    if (lane < live) unpack_part(kind, src, lane, columns, column, kOwnBlock, row);
    for (size_t i = 0; i < kOwnBlock; ++i) dst[i * kScaleLanes + lane] = lane < live ? row[i] : 0;
  }
}

void encode_row(const float* turned, const BlockScales& scales, size_t lane, DType own, std::byte* dst) {
  const auto most = static_cast<float>((1 << own_bits(own)) - 1);
  uint8_t codes[kOwnBlock];
  for (size_t i = 0; i < kOwnBlock; ++i) {
    const float code = std::nearbyint((turned[i * kScaleLanes + lane] - scales.minimum[lane]) / scales.scale[lane]);
    codes[i] = code > 0 ? static_cast<uint8_t>(std::min(code, most)) : 0;  // a NaN has no code
  }
  encode_own_block(own, float_to_f16(scales.scale[lane]), float_to_f16(scales.minimum[lane]), codes, dst);
}

}  // namespace

void copy_low_bit(PackedKind kind, const std::byte* src, uint64_t rows, uint64_t columns, DType own, std::byte* dst) {
  const PackedKind to = *packed_kind(own);
  const uint64_t src_block = packed_block_bytes(kind, columns), dst_block = packed_block_bytes(to, columns),
                 unit = packed_block_bytes(to, kOwnBlock), row_size = traits(own).block_bytes;
  const OwnLevels levels(own_bits(own), false);
  float turned[kOwnBlock * kScaleLanes];
  std::byte encoded[kScaleLanes * kMostBlockBytes];
  for (uint64_t first = 0; first < rows; first += kScaleLanes) {
    const uint64_t live = std::min<uint64_t>(kScaleLanes, rows - first);
    const std::byte* const strip = src + first / kPackRows * src_block;
    for (uint64_t column = 0; column < columns; column += kOwnBlock) {
      turn(kind, strip, live, columns, column, turned);
      const BlockScales scales = search_scales(turned, kAllAlike, levels, true);
      for (uint64_t lane = 0; lane < live; ++lane) encode_row(turned, scales, lane, own, encoded + lane * row_size);
      for (uint64_t row = 0; row < live; row += kPackRows) {
        std::byte* const at = dst + (first + row) / kPackRows * dst_block + column / kOwnBlock * unit;
        pack_rows(own, encoded + row * row_size, std::min<uint64_t>(kPackRows, live - row), kOwnBlock, at);
      }
    }
  }
}

}  // namespace outrigger
