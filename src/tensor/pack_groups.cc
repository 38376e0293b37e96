// Packing of the quantised kinds: what each file format has in a block, put where the table of layouts says.
#include <cstring>

#include "src/tensor/k_quant_scales.h"
#include "src/tensor/packed_layout.h"
#include "src/tensor/transpose.h"

namespace outrigger {
namespace {

// Four codes of a row, one in each byte: the unit in which everything moves.
uint32_t word_at(const uint8_t* src) {
  uint32_t word;
  std::memcpy(&word, src, 4);
  return word;
}

void put_word(std::byte* plane, size_t line, uint32_t word) { std::memcpy(plane + line * kQuadRow, &word, 4); }

// Legacy formats hold 4-bit codes k and k + 16 in one byte, in order of k, and so does a line of a plane. `flip` turns int8 codes into
// code + 128, so that one instruction that multiplies unsigned with signed bytes serves every format.
template <size_t kWords>
void put_words(const uint8_t* src, uint32_t flip, std::byte* plane) {
  for (size_t q = 0; q < kWords; ++q) put_word(plane, q, word_at(src + q * 4) ^ flip);
}

// The others hold a group's 32 codes (or parts of them) in 32 successive bytes, at a bit that depends on the group.
void put_nibbles(const uint8_t* src, int shift, std::byte* plane) {
  constexpr uint32_t kMask = 0x0f0f0f0f;
  for (size_t q = 0; q < 4; ++q) {
    put_word(plane, q, (word_at(src + q * 4) >> shift & kMask) | (word_at(src + 16 + q * 4) >> shift & kMask) << 4);
  }
}

void put_bit_pairs(const uint8_t* src, int shift, std::byte* plane) {
  for (size_t line = 0; line < 2; ++line) {
    uint32_t word = 0;
    for (size_t i = 0; i < 4; ++i) word |= (word_at(src + (i * 2 + line) * 4) >> shift & 0x03030303u) << 2 * i;
    put_word(plane, line, word);
  }
}

void put_bits(const uint8_t* src, int shift, std::byte* plane) {
  uint32_t word = 0;
  for (size_t q = 0; q < 8; ++q) word |= (word_at(src + q * 4) >> shift & 0x01010101u) << q;
  put_word(plane, 0, word);
}

// 32 successive bits, one for each element. The factor copies four bits to the lowest places of four bytes.
void put_bit_string(const uint8_t* src, std::byte* plane) {
  const uint32_t bits = word_at(src);
  uint32_t word = 0;
  for (size_t q = 0; q < 8; ++q) word |= ((bits >> 4 * q & 15) * 0x00204081u & 0x01010101u) << q;
  put_word(plane, 0, word);
}

// The codes of group g of a block; `plane` is this row's place in the first line.
template <PackedKind kKind>
void put_codes(const uint8_t* block, size_t g, std::byte* plane) {
  constexpr GroupLayout kLayout = group_layout(kKind);
  std::byte* const high = plane + kLayout.low_plane_bytes();
  // In blocks of 256, of which each half or quarter lies bit by bit over the same bytes.
  if constexpr (kLayout.scale_form == ScaleForm::kOfUnit) {
    // Ours have them as the planes have.
    constexpr size_t kLow = kLayout.low_bits, kHigh = kLayout.high_bits;
    const uint8_t* const codes = block + 4 + g * 4 * (kLow + kHigh);
    put_words<kLow>(codes, 0, plane);
    return put_words<kHigh>(codes + 4 * kLow, 0, high);
  }
  const int nibble = static_cast<int>(g % 2 * 4), pair = static_cast<int>(g % 4 * 2), bit = static_cast<int>(g);
  switch (kKind) {
    case PackedKind::kQ8_0:
      return put_words<8>(block + 2, 0x80808080u, plane);
    case PackedKind::kQ4_0:
    case PackedKind::kIQ4_NL:
      return put_words<4>(block + 2, 0, plane);
    case PackedKind::kQ4_1:
      return put_words<4>(block + 4, 0, plane);
    case PackedKind::kMXFP4:
      return put_words<4>(block + 1, 0, plane);
    case PackedKind::kQ5_0:
    case PackedKind::kQ5_1: {
      const uint8_t* bits = block + (kLayout.has_minimum() ? 4 : 2);
      put_words<4>(bits + 4, 0, plane);
      return put_bit_string(bits, high);
    }
    case PackedKind::kIQ4_XS:
      return put_words<4>(block + 8 + g * 16, 0, plane);
    case PackedKind::kQ2_K:
      return put_bit_pairs(block + 16 + g / 4 * 32, pair, plane);
    case PackedKind::kQ3_K:
      put_bit_pairs(block + 32 + g / 4 * 32, pair, plane);
      return put_bits(block, bit, high);
    case PackedKind::kQ4_K:
      return put_nibbles(block + 16 + g / 2 * 32, nibble, plane);
    case PackedKind::kQ5_K:
      put_nibbles(block + 48 + g / 2 * 32, nibble, plane);
      return put_bits(block + 16, bit, high);
    case PackedKind::kQ6_K:
      put_nibbles(block + g / 4 * 64 + g % 2 * 32, static_cast<int>(g % 4 / 2 * 4), plane);
      return put_bit_pairs(block + 128 + g / 4 * 32, pair, high);
    default:
      return;  // not quantised: no layout has it
  }
}

// Of the formats whose codes are in the file as in the plane: where a group's are, and how many quads of them there are. No quads: the
// others. And whether each block begins with a float16 scale, which a minimum may follow.
struct PlainCodes {
  size_t quads = 0, offset = 0, of_group = 0;
  uint32_t flip = 0;
  bool has_half_scale = false;
};
consteval PlainCodes plain_codes(PackedKind kind) {
  switch (kind) {
    case PackedKind::kQ8_0:
      return {2, 2, 0, 0x80808080u, true};
    case PackedKind::kQ4_0:
    case PackedKind::kIQ4_NL:
      return {1, 2, 0, 0, true};
    case PackedKind::kQ4_1:
      return {1, 4, 0, 0, true};
    case PackedKind::kMXFP4:
      return {1, 1, 0, 0};
    case PackedKind::kIQ4_XS:
      return {1, 8, 16, 0};
    case PackedKind::kO4:
    case PackedKind::kN4:
    case PackedKind::kO4_128:
    case PackedKind::kN4_128:
      return {1, 4, 16, 0};
    default:
      return {};
  }
}

// The codes of group g of the blocks of four neighbouring rows, `row_bytes` apart; `plane` is the first one's place in the first line.
template <PackedKind kKind>
void put_codes_of_four(const uint8_t* block, size_t row_bytes, size_t g, std::byte* plane) {
  constexpr PlainCodes kPlain = plain_codes(kKind);
  for (size_t q = 0; q < kPlain.quads; ++q) {
    Quad rows[4];
    for (size_t row = 0; row < 4; ++row)
      rows[row] = load_vector<Quad>(block + row * row_bytes + kPlain.offset + g * kPlain.of_group + q * sizeof(Quad)) ^ kPlain.flip;
    store_transposed(rows, plane + q * 4 * kQuadRow, kQuadRow);
  }
}

// The same of scales, and minima if there are; `dst` is the first row's place.
template <PackedKind kKind>
void put_half_scales_of_four(const uint8_t* block, size_t row_bytes, std::byte* dst) {
  uint64_t scales = 0, minima = 0;
  for (size_t row = 0; row < 4; ++row) {
    const uint64_t word = word_at(block + row * row_bytes);
    scales |= (word & 0xffff) << 16 * row;
    minima |= word >> 16 << 16 * row;
  }
  std::memcpy(dst, &scales, sizeof scales);
  if (group_layout(kKind).has_minimum()) std::memcpy(dst + kHalfRow, &minima, sizeof minima);
}

void put_byte(std::byte* dst, int value) { *dst = static_cast<std::byte>(value); }

// The scales of group g of a block, for row `row`.
template <PackedKind kKind>
void put_scales(const uint8_t* block, size_t g, size_t row, std::byte* dst) {
  if constexpr (group_layout(kKind).scale_form == ScaleForm::kOfUnit) return;  // the unit's are all
  const int group = static_cast<int>(g);
  switch (kKind) {
    case PackedKind::kMXFP4:
      return put_byte(dst + row, block[0]);
    case PackedKind::kIQ4_XS:
      return put_byte(dst + row, iq4_xs_scale(block + 2, group));
    case PackedKind::kQ4_K:
    case PackedKind::kQ5_K: {
      const KQuantScale both = q4_k_scale(block + 4, group);
      put_byte(dst + row, both.scale);
      return put_byte(dst + kPackRows + row, both.minimum);
    }
    case PackedKind::kQ2_K:
    case PackedKind::kQ6_K:
      std::memcpy(dst + row * 2, block + (kKind == PackedKind::kQ2_K ? 0 : 192) + g * 2, 2);
      return;
    case PackedKind::kQ3_K:
      for (int half = 0; half < 2; ++half) put_byte(dst + row * 2 + half, q3_k_scale(block + 96, group * 2 + half));
      return;
    default:
      std::memcpy(dst + row * 2, block, 2);
      if (group_layout(kKind).has_minimum()) std::memcpy(dst + kHalfRow + row * 2, block + 2, 2);
  }
}

// Where a block that is a unit has its float16 scale; a minimum follows it.
consteval size_t unit_scale_in_file(PackedKind kind) {
  return kind == PackedKind::kQ2_K ? 80 : kind == PackedKind::kQ3_K ? 108 : kind == PackedKind::kQ6_K ? 208 : 0;
}

template <PackedKind kKind>
void pack_kind(const std::byte* src, size_t rows, size_t columns, std::byte* dst) {
  constexpr GroupLayout kLayout = group_layout(kKind);
  const DTypeTraits& file = traits(kLayout.type);
  const size_t groups = file.block_elements / kPackGroup, blocks = columns / file.block_elements;
  const auto* bytes = reinterpret_cast<const uint8_t*>(src);
  for (size_t b = 0; b < blocks; ++b) {
    if (kLayout.header_bytes() > kLayout.all_scales_bytes()) {  // only where a block is a unit
      std::memset(dst + kLayout.unit_at(b * groups) + kLayout.all_scales_bytes(), 0, kLayout.header_bytes() - kLayout.all_scales_bytes());
    }
    constexpr PlainCodes kPlain = plain_codes(kKind);
    const size_t in_fours = kPlain.quads > 0 ? rows / 4 * 4 : 0, row_bytes = blocks * file.block_bytes;
    for (size_t row = 0; row < in_fours; row += 4) {
      const uint8_t* block = bytes + (row * blocks + b) * file.block_bytes;
      for (size_t g = 0; g < groups; ++g) {
        put_codes_of_four<kKind>(block, row_bytes, g, dst + kLayout.codes_at(b * groups + g) + row * 4);
        if (kPlain.has_half_scale) put_half_scales_of_four<kKind>(block, row_bytes, dst + kLayout.scales_at(b * groups + g) + row * 2);
      }
    }
    for (size_t row = kPlain.has_half_scale ? in_fours : 0; row < rows; ++row) {
      const uint8_t* block = bytes + row * row_bytes + b * file.block_bytes;
      for (size_t offset = 0; offset < kLayout.unit_scale_bytes(); offset += kHalfRow) {
        std::memcpy(dst + kLayout.unit_at(b * groups) + offset + row * 2, block + unit_scale_in_file(kKind) + offset / kPackRows, 2);
      }
      for (size_t g = 0; g < groups; ++g) {
        put_scales<kKind>(block, g, row, dst + kLayout.scales_at(b * groups + g));
        if (row >= in_fours) put_codes<kKind>(block, g, dst + kLayout.codes_at(b * groups + g) + row * 4);
      }
    }
  }
}

}  // namespace

void pack_group_rows(const GroupLayout& layout, const std::byte* src, size_t rows, size_t columns, std::byte* dst) {
  switch (layout.kind) {
    case PackedKind::kQ8_0:
      return pack_kind<PackedKind::kQ8_0>(src, rows, columns, dst);
    case PackedKind::kQ4_0:
      return pack_kind<PackedKind::kQ4_0>(src, rows, columns, dst);
    case PackedKind::kQ4_1:
      return pack_kind<PackedKind::kQ4_1>(src, rows, columns, dst);
    case PackedKind::kQ5_0:
      return pack_kind<PackedKind::kQ5_0>(src, rows, columns, dst);
    case PackedKind::kQ5_1:
      return pack_kind<PackedKind::kQ5_1>(src, rows, columns, dst);
    case PackedKind::kQ2_K:
      return pack_kind<PackedKind::kQ2_K>(src, rows, columns, dst);
    case PackedKind::kQ3_K:
      return pack_kind<PackedKind::kQ3_K>(src, rows, columns, dst);
    case PackedKind::kQ4_K:
      return pack_kind<PackedKind::kQ4_K>(src, rows, columns, dst);
    case PackedKind::kQ5_K:
      return pack_kind<PackedKind::kQ5_K>(src, rows, columns, dst);
    case PackedKind::kQ6_K:
      return pack_kind<PackedKind::kQ6_K>(src, rows, columns, dst);
    case PackedKind::kIQ4_NL:
      return pack_kind<PackedKind::kIQ4_NL>(src, rows, columns, dst);
    case PackedKind::kIQ4_XS:
      return pack_kind<PackedKind::kIQ4_XS>(src, rows, columns, dst);
    case PackedKind::kMXFP4:
      return pack_kind<PackedKind::kMXFP4>(src, rows, columns, dst);
    case PackedKind::kO2:
      return pack_kind<PackedKind::kO2>(src, rows, columns, dst);
    case PackedKind::kO3:
      return pack_kind<PackedKind::kO3>(src, rows, columns, dst);
    case PackedKind::kO4:
      return pack_kind<PackedKind::kO4>(src, rows, columns, dst);
    case PackedKind::kN2:
      return pack_kind<PackedKind::kN2>(src, rows, columns, dst);
    case PackedKind::kN3:
      return pack_kind<PackedKind::kN3>(src, rows, columns, dst);
    case PackedKind::kN4:
      return pack_kind<PackedKind::kN4>(src, rows, columns, dst);
    case PackedKind::kO2_128:
      return pack_kind<PackedKind::kO2_128>(src, rows, columns, dst);
    case PackedKind::kO3_128:
      return pack_kind<PackedKind::kO3_128>(src, rows, columns, dst);
    case PackedKind::kO4_128:
      return pack_kind<PackedKind::kO4_128>(src, rows, columns, dst);
    case PackedKind::kN2_128:
      return pack_kind<PackedKind::kN2_128>(src, rows, columns, dst);
    case PackedKind::kN3_128:
      return pack_kind<PackedKind::kN3_128>(src, rows, columns, dst);
    case PackedKind::kN4_128:
      return pack_kind<PackedKind::kN4_128>(src, rows, columns, dst);
    default:
      return;  // not quantised: no layout has it
  }
}

}  // namespace outrigger
