// The table of packed layouts, and reading one row's group back.
#include "src/tensor/packed_layout.h"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "src/tensor/half.h"

namespace outrigger {
namespace {

// Every unit is whole cache lines, and its padding is small change: the most is Q6_K's and Q3_K's, 32 of 3392 and of 1856 bytes.
static_assert(std::all_of(std::begin(kGroupLayouts), std::end(kGroupLayouts), [](const GroupLayout& layout) {
  return layout.unit_bytes() % kPackAlignment == 0 && layout.low_plane_bytes() % kQuadRow == 0;
}));
static_assert(group_layout(PackedKind::kQ8_0).unit_bytes() == 1088 && group_layout(PackedKind::kQ4_1).unit_bytes() == 320);
static_assert(group_layout(PackedKind::kQ2_K).unit_bytes() == 16 * 84 && group_layout(PackedKind::kQ3_K).unit_bytes() == 16 * 116);
static_assert(group_layout(PackedKind::kQ4_K).unit_bytes() == 16 * 148 && group_layout(PackedKind::kQ5_K).unit_bytes() == 16 * 180);
static_assert(group_layout(PackedKind::kO2).unit_bytes() == 320 && group_layout(PackedKind::kO3).unit_bytes() == 448);
static_assert(group_layout(PackedKind::kN2_128).unit_bytes() == 576 && group_layout(PackedKind::kN3_128).unit_bytes() == 832);
static_assert(group_layout(PackedKind::kQ6_K).unit_bytes() == 16 * 212 && group_layout(PackedKind::kIQ4_XS).unit_bytes() == 16 * 140);

float half_at(const std::byte* src) {
  uint16_t bits;
  std::memcpy(&bits, src, 2);
  return f16_to_float(bits);
}

int byte_at(const std::byte* src) { return std::to_integer<int>(*src); }
int signed_byte_at(const std::byte* src) { return static_cast<int8_t>(byte_at(src)); }

// The bits of quad q in a plane of `bits` bits; `plane` is at the byte that the row and k % 4 have in each line.
int part_of_code(const std::byte* plane, size_t bits, size_t q) {
  return byte_at(plane + q % bits * kQuadRow) >> q / bits * bits & ((1 << bits) - 1);
}

void read_scales(const GroupLayout& layout, const std::byte* unit, const std::byte* scales, size_t row, PackedGroup& group) {
  group.minimum = 0;
  group.has_minimum = layout.has_minimum();
  for (int h = 0; h < 2; ++h) group.sub_scale[h] = group.sub_minimum[h] = 1;
  if (layout.has_unit_scale()) {
    group.scale = half_at(unit + row * 2);
    if (layout.has_minimum()) group.minimum = (layout.takes_minimum_off() ? -1.0f : 1.0f) * half_at(unit + kHalfRow + row * 2);
  }
  switch (layout.scale_form) {
    case ScaleForm::kOfUnit:
      return;
    case ScaleForm::kHalfAndMinimum:
      group.minimum = half_at(scales + kHalfRow + row * 2);
      [[fallthrough]];
    case ScaleForm::kHalf:
      group.scale = half_at(scales + row * 2);
      return;
    case ScaleForm::kPowerOfTwo:
      group.scale = half_power_of_two(static_cast<uint8_t>(byte_at(scales + row)));
      return;
    case ScaleForm::kByte:
      group.sub_scale[0] = group.sub_scale[1] = signed_byte_at(scales + row);
      return;
    case ScaleForm::kByteAndMinimum:
      group.sub_scale[0] = group.sub_scale[1] = byte_at(scales + row);
      group.sub_minimum[0] = group.sub_minimum[1] = byte_at(scales + kPackRows + row);
      return;
    case ScaleForm::kTwoBytes:
      for (int h = 0; h < 2; ++h) group.sub_scale[h] = signed_byte_at(scales + row * 2 + h);
      return;
    case ScaleForm::kTwoNibblePairs:
      for (int h = 0; h < 2; ++h) {
        group.sub_scale[h] = byte_at(scales + row * 2 + h) & 15;
        group.sub_minimum[h] = byte_at(scales + row * 2 + h) >> 4;
      }
  }
}

}  // namespace

const GroupLayout* find_group_layout(PackedKind kind) {
  const auto* found =
      std::find_if(std::begin(kGroupLayouts), std::end(kGroupLayouts), [kind](auto& layout) { return layout.kind == kind; });
  return found == std::end(kGroupLayouts) ? nullptr : found;
}

PackedGroup read_packed_group(const GroupLayout& layout, const std::byte* block, size_t group, size_t row) {
  PackedGroup result;
  read_scales(layout, block + layout.unit_at(group), block + layout.scales_at(group), row, result);
  const std::byte* low = block + layout.codes_at(group) + row * 4;
  const std::byte* high = low + layout.low_plane_bytes();
  for (size_t k = 0; k < kPackGroup; ++k) {
    int code = part_of_code(low + k % 4, layout.low_bits, k / 4);
    if (layout.high_bits != 0) code |= part_of_code(high + k % 4, layout.high_bits, k / 4) << layout.low_bits;
    result.codes[k] = layout.codebook == Codebook::kNone ? code - layout.zero_point : codebook_values(layout.codebook)[code];
  }
  return result;
}

}  // namespace outrigger
