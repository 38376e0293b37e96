// Packing: sixteen rows of the file's layout become one row block of the kernels' layout.
#include "src/tensor/packed.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "src/tensor/half.h"
#include "src/tensor/packed_layout.h"
#include "src/tensor/transpose.h"

namespace outrigger {
namespace {

// Eight elements of each row at a time: that much of every row is one or half a cache line, and a row block may have a power of two
// between its rows, where longer strips of sixteen rows would push one another out of the first-level cache.
constexpr size_t kStrip = 8;

// A strip of all sixteen rows. `src` and `dst` are its first element's places.
template <typename Element>
void pack_whole_strip(const std::byte* src, size_t src_row_bytes, std::byte* dst) {
  using Vector = std::conditional_t<sizeof(Element) == 2, Octet, Quad>;
  constexpr size_t kSide = sizeof(Vector) / sizeof(Element);
  for (size_t column = 0; column < kStrip; column += kSide) {
    for (size_t row = 0; row < kPackRows; row += kSide) {
      Vector rows[kSide];
      for (size_t i = 0; i < kSide; ++i) rows[i] = load_vector<Vector>(src + (row + i) * src_row_bytes + column * sizeof(Element));
      store_transposed(rows, dst + (column * kPackRows + row) * sizeof(Element), kPackRows * sizeof(Element));
    }
  }
}

template <typename Element>
void pack_elements(const std::byte* src, size_t rows, size_t src_row_bytes, size_t columns, std::byte* dst) {
  for (size_t begin = 0; begin < columns; begin += kStrip) {
    const size_t end = std::min(columns, begin + kStrip);
    if (rows == kPackRows && end - begin == kStrip) {
      pack_whole_strip<Element>(src + begin * sizeof(Element), src_row_bytes, dst + begin * kPackRows * sizeof(Element));
      continue;
    }
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
    default:
      return pack_group_rows(*find_group_layout(kind), src, rows, columns, dst);
  }
}

uint16_t half_bits(const std::byte* src) {
  uint16_t bits;
  std::memcpy(&bits, src, 2);
  return bits;
}

void unpack_groups(const GroupLayout& layout, const std::byte* block, size_t lane, size_t first, size_t count, float* dst) {
  for (size_t k = 0; k < count; k += kPackGroup) {
    const PackedGroup group = read_packed_group(layout, block, (first + k) / kPackGroup, lane);
    for (size_t i = 0; i < kPackGroup; ++i) dst[k + i] = group.value(i);
  }
}

}  // namespace

std::optional<PackedKind> packed_kind(DType type) {
  if (type == DType::kF32) return PackedKind::kF32;
  if (type == DType::kF16) return PackedKind::kF16;
  if (type == DType::kBF16) return PackedKind::kBF16;
  for (const GroupLayout& layout : kGroupLayouts) {
    if (layout.type == type) return layout.kind;
  }
  return std::nullopt;
}

bool is_dense(PackedKind kind) { return kind == PackedKind::kF32 || kind == PackedKind::kF16 || kind == PackedKind::kBF16; }

bool takes_int8_activations(PackedKind kind) { return !is_dense(kind); }

bool takes_bf16_activations(PackedKind kind) { return kind == PackedKind::kBF16; }

uint64_t packed_block_bytes(PackedKind kind, uint64_t columns) {
  if (const GroupLayout* layout = find_group_layout(kind)) {
    const uint64_t unit_columns = layout->unit_groups * kPackGroup;
    return (columns + unit_columns - 1) / unit_columns * layout->unit_bytes();
  }
  return (columns * kPackRows * (kind == PackedKind::kF32 ? 4 : 2) + kPackAlignment - 1) / kPackAlignment * kPackAlignment;
}

uint64_t packed_bytes(PackedKind kind, uint64_t rows, uint64_t columns) {
  return (rows + kPackRows - 1) / kPackRows * packed_block_bytes(kind, columns);
}

void pack_rows(DType type, const std::byte* src, uint64_t rows, uint64_t columns, std::byte* dst) {
  const PackedKind kind = *packed_kind(type);
  const uint64_t row_size = *row_bytes(type, columns), block_size = packed_block_bytes(kind, columns);
  const GroupLayout* layout = find_group_layout(kind);
  const bool has_padding = columns % (layout ? layout->unit_groups * kPackGroup : 2) != 0;
  for (uint64_t row = 0; row < rows; row += kPackRows, src += kPackRows * row_size, dst += block_size) {
    const uint64_t live = std::min<uint64_t>(kPackRows, rows - row);
    if (live < kPackRows || has_padding) std::memset(dst, 0, block_size);
    pack_block(kind, src, live, columns, dst);
  }
}

void unpack_row(PackedKind kind, const std::byte* src, uint64_t row, uint64_t columns, float* dst) {
  unpack_part(kind, src, row, columns, 0, columns, dst);
}

void unpack_part(PackedKind kind, const std::byte* src, uint64_t row, uint64_t columns, uint64_t first, uint64_t count, float* dst) {
  const std::byte* block = src + row / kPackRows * packed_block_bytes(kind, columns);
  const size_t lane = row % kPackRows;
  if (const GroupLayout* layout = find_group_layout(kind)) return unpack_groups(*layout, block, lane, first, count, dst);
  for (size_t k = first; k < first + count; ++k, ++dst) {
    const size_t element = k * kPackRows + lane;
    if (kind == PackedKind::kF32) {
      std::memcpy(dst, block + element * 4, 4);
      continue;
    }
    const bool is_f16 = kind == PackedKind::kF16;
    const uint16_t bits = half_bits(block + (is_f16 ? element * 2 : (k / 2 * kPackRows + lane) * 4 + k % 2 * 2));
    *dst = is_f16 ? f16_to_float(bits) : bf16_to_float(bits);
  }
}

}  // namespace outrigger
