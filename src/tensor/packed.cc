// Packing: sixteen rows of the file's layout become one row block of the kernels' layout.
#include "src/tensor/packed.h"

#include <algorithm>
#include <cstring>

#include "src/tensor/half.h"

namespace outrigger {
namespace {

constexpr size_t kGroup = 32;                                            // elements that share a scale, in the three quantised types
constexpr size_t kHalfRow = kPackRows * 2;                               // bytes of one float16 for each row
constexpr size_t kQuadRow = kPackRows * 4;                               // bytes of four 8-bit (or four pairs of 4-bit) codes for each row
constexpr size_t kScaledQ8Block = 34, kQ4_0Block = 18, kQ4_1Block = 20;  // bytes of a group in the file

// Where group g of a row block lies. Two groups share a line of scales, except in Q4_1, whose scales and minima fill a line by themselves.
struct GroupPlace {
  size_t scales, codes;
};

GroupPlace group_place(PackedKind kind, size_t group) {
  if (kind == PackedKind::kQ4_1) return {group * 320, group * 320 + 2 * kHalfRow};
  const size_t code_bytes = kind == PackedKind::kQ8_0 ? 8 * kQuadRow : 4 * kQuadRow;
  const size_t pair = group / 2 * (2 * kHalfRow + 2 * code_bytes);
  return {pair + group % 2 * kHalfRow, pair + 2 * kHalfRow + group % 2 * code_bytes};
}

// The files hold 4-bit codes k and k + 16 in one byte, in order of k, and so does a packed quad: whole groups of four bytes move.
template <size_t kQuads>
void scatter_quads(const std::byte* src, size_t row, std::byte* codes, uint32_t flip) {
  for (size_t q = 0; q < kQuads; ++q) {
    uint32_t quad;
    std::memcpy(&quad, src + q * 4, 4);
    quad ^= flip;
    std::memcpy(codes + q * kQuadRow + row * 4, &quad, 4);
  }
}

template <size_t kBlockBytes, size_t kHalves, size_t kQuads>
void pack_groups(PackedKind kind, const std::byte* src, size_t rows, size_t groups, std::byte* dst) {
  // int8 codes become code + 128, so that one instruction that multiplies unsigned with signed bytes serves every format.
  const uint32_t flip = kind == PackedKind::kQ8_0 ? 0x80808080u : 0;
  for (size_t g = 0; g < groups; ++g) {
    const GroupPlace place = group_place(kind, g);
    for (size_t row = 0; row < rows; ++row) {
      const std::byte* block = src + (row * groups + g) * kBlockBytes;
      for (size_t h = 0; h < kHalves; ++h) std::memcpy(dst + place.scales + h * kHalfRow + row * 2, block + h * 2, 2);
      scatter_quads<kQuads>(block + kHalves * 2, row, dst + place.codes, flip);
    }
  }
}

// Eight elements of each row at a time: that much of every row is one or half a cache line, and a row block may have a power of two
// between its rows, where longer strips of sixteen rows would push one another out of the first-level cache.
template <typename Element>
void pack_elements(const std::byte* src, size_t rows, size_t src_row_bytes, size_t columns, std::byte* dst) {
  constexpr size_t kStrip = 8;
  for (size_t begin = 0; begin < columns; begin += kStrip) {
    const size_t end = std::min(columns, begin + kStrip);
    for (size_t row = 0; row < rows; ++row) {
      for (size_t k = begin; k < end; ++k) {
        std::memcpy(dst + (k * kPackRows + row) * sizeof(Element), src + row * src_row_bytes + k * sizeof(Element), sizeof(Element));
      }
    }
  }
}

// Pairs of k are elements of twice the size; an odd width's last one has half of it, and zeros.
void pack_pairs(const std::byte* src, size_t rows, size_t columns, std::byte* dst) {
  pack_elements<uint32_t>(src, rows, columns * 2, columns / 2, dst);
  if (columns % 2 == 0) return;
  for (size_t row = 0; row < rows; ++row) {
    std::memcpy(dst + (columns / 2 * kPackRows + row) * 4, src + ((row + 1) * columns - 1) * 2, 2);
  }
}

void pack_block(PackedKind kind, const std::byte* src, size_t rows, size_t columns, std::byte* dst) {
  switch (kind) {
    case PackedKind::kF32:
      return pack_elements<uint32_t>(src, rows, columns * 4, columns, dst);
    case PackedKind::kF16:
      return pack_elements<uint16_t>(src, rows, columns * 2, columns, dst);
    case PackedKind::kBF16:
      return pack_pairs(src, rows, columns, dst);
    case PackedKind::kQ8_0:
      return pack_groups<kScaledQ8Block, 1, 8>(kind, src, rows, columns / kGroup, dst);
    case PackedKind::kQ4_0:
      return pack_groups<kQ4_0Block, 1, 4>(kind, src, rows, columns / kGroup, dst);
    case PackedKind::kQ4_1:
      return pack_groups<kQ4_1Block, 2, 4>(kind, src, rows, columns / kGroup, dst);
  }
}

uint16_t half_bits(const std::byte* src) {
  uint16_t bits;
  std::memcpy(&bits, src, 2);
  return bits;
}

}  // namespace

std::optional<PackedKind> packed_kind(DType type) {
  switch (type) {
    case DType::kF32:
      return PackedKind::kF32;
    case DType::kF16:
      return PackedKind::kF16;
    case DType::kBF16:
      return PackedKind::kBF16;
    case DType::kQ8_0:
      return PackedKind::kQ8_0;
    case DType::kQ4_0:
      return PackedKind::kQ4_0;
    case DType::kQ4_1:
      return PackedKind::kQ4_1;
    default:
      return std::nullopt;
  }
}

bool is_dense(PackedKind kind) { return kind == PackedKind::kF32 || kind == PackedKind::kF16 || kind == PackedKind::kBF16; }

bool takes_int8_activations(PackedKind kind) { return kind == PackedKind::kQ8_0 || kind == PackedKind::kQ4_0 || kind == PackedKind::kQ4_1; }

bool takes_bf16_activations(PackedKind kind) { return kind == PackedKind::kBF16; }

uint64_t packed_block_bytes(PackedKind kind, uint64_t columns) {
  const uint64_t pairs = (columns + 2 * kGroup - 1) / (2 * kGroup);
  switch (kind) {
    case PackedKind::kF32:
      return columns * kPackRows * 4;
    case PackedKind::kF16:
    case PackedKind::kBF16:
      return (columns * kPackRows * 2 + kPackAlignment - 1) / kPackAlignment * kPackAlignment;
    case PackedKind::kQ8_0:
      return pairs * 1088;
    case PackedKind::kQ4_0:
      return pairs * 576;
    case PackedKind::kQ4_1:
      return (columns + kGroup - 1) / kGroup * 320;
  }
  return 0;
}

uint64_t packed_bytes(PackedKind kind, uint64_t rows, uint64_t columns) {
  return (rows + kPackRows - 1) / kPackRows * packed_block_bytes(kind, columns);
}

void pack_rows(DType type, const std::byte* src, uint64_t rows, uint64_t columns, std::byte* dst) {
  const PackedKind kind = *packed_kind(type);
  const uint64_t row_size = *row_bytes(type, columns), block_size = packed_block_bytes(kind, columns);
  const bool has_padding = columns % (2 * kGroup) != 0;  // of k; some kinds have none even so, and one memset more is cheap
  for (uint64_t row = 0; row < rows; row += kPackRows, src += kPackRows * row_size, dst += block_size) {
    const uint64_t live = std::min<uint64_t>(kPackRows, rows - row);
    if (live < kPackRows || has_padding) std::memset(dst, 0, block_size);
    pack_block(kind, src, live, columns, dst);
  }
}

void unpack_row(PackedKind kind, const std::byte* src, uint64_t row, uint64_t columns, float* dst) {
  const std::byte* block = src + row / kPackRows * packed_block_bytes(kind, columns);
  const size_t lane = row % kPackRows;
  for (size_t k = 0; k < columns; ++k) {
    const size_t element = k * kPackRows + lane;
    if (kind == PackedKind::kF32) {
      std::memcpy(dst + k, block + element * 4, 4);
      continue;
    }
    if (kind == PackedKind::kF16) {
      dst[k] = f16_to_float(half_bits(block + element * 2));
      continue;
    }
    if (kind == PackedKind::kBF16) {
      dst[k] = bf16_to_float(half_bits(block + (k / 2 * kPackRows + lane) * 4 + k % 2 * 2));
      continue;
    }
    const GroupPlace place = group_place(kind, k / kGroup);
    const size_t in_group = k % kGroup, quad = in_group / 4;
    const float scale = f16_to_float(half_bits(block + place.scales + lane * 2));
    if (kind == PackedKind::kQ8_0) {
      const int code = std::to_integer<int>(block[place.codes + quad * kQuadRow + lane * 4 + in_group % 4]);
      dst[k] = scale * static_cast<float>(code - 128);
      continue;
    }
    const int both = std::to_integer<int>(block[place.codes + quad % 4 * kQuadRow + lane * 4 + in_group % 4]);
    const int code = quad < 4 ? both & 15 : both >> 4;
    if (kind == PackedKind::kQ4_0) {
      dst[k] = scale * static_cast<float>(code - 8);
    } else {
      dst[k] = scale * static_cast<float>(code) + f16_to_float(half_bits(block + place.scales + kHalfRow + lane * 2));
    }
  }
}

}  // namespace outrigger
