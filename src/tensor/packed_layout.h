// The packed layouts of the quantised kinds as one table: where scales and codes of a group lie, and how they become numbers.
#ifndef OUTRIGGER_SRC_TENSOR_PACKED_LAYOUT_H_
#define OUTRIGGER_SRC_TENSOR_PACKED_LAYOUT_H_

#include <cstddef>
#include <cstdint>

#include "src/tensor/codebooks.h"
#include "src/tensor/packed.h"

namespace outrigger {

/// Elements of k that make a group in every quantised kind.
inline constexpr size_t kPackGroup = 32;
/// Bytes of one float16 for each row.
inline constexpr size_t kHalfRow = kPackRows * 2;
/// Bytes of four 8-bit codes for each row: a line of a plane.
inline constexpr size_t kQuadRow = kPackRows * 4;

/// What scales a row's group. "A unit" is what shares the float16 ones that stand before the groups' own.
enum class ScaleForm : uint8_t {
  kHalf,            ///< [row] float16 scale
  kHalfAndMinimum,  ///< [row] float16 scale, then [row] float16 minimum
  kPowerOfTwo,      ///< [row] byte e: the scale is 2^(e - 128)
  kByte,            ///< a unit: float16 scale. [row] int8, which multiplies it
  kByteAndMinimum,  ///< a unit: float16 scale and minimum. [row] byte for the one, then [row] byte for the other; the minimum is taken off
  kTwoBytes,        ///< a unit: float16 scale. [row][half] int8 for elements 0-15 and 16-31
  kTwoNibblePairs,  ///< a unit: float16 scale and minimum. [row][half] scale | minimum << 4; the minimum is taken off
  kOfUnit,          ///< a unit: float16 scale and minimum, which are its groups'; the minimum is added
};

/// A quantised kind. A row block is units of `unit_groups` groups; a unit is, each part for all 16 rows,
///   the float16 scales (and minima) that the unit shares, the scales of its groups in order, zeros up to a multiple of 64 bytes,
///   the codes of its groups in order: the plane of the low bits, then that of the high bits.
/// A plane of b bits is b lines of 64 bytes. Quad q = k % 32 / 4 of the group lies in line q % b, at bit q / b * b of byte row * 4 + k % 4.
/// A code is low + (high << low_bits), looked up in `codebook` if there is one, less `zero_point`; its value is code * scale (+ minimum).
struct GroupLayout {
  PackedKind kind;
  DType type;
  uint8_t unit_groups;
  uint8_t low_bits, high_bits;
  uint8_t zero_point;  ///< of the unsigned code; with a codebook, what the kernels add to its values to make them unsigned
  ScaleForm scale_form;
  Codebook codebook = Codebook::kNone;

  constexpr bool has_minimum() const {
    return scale_form == ScaleForm::kHalfAndMinimum || scale_form == ScaleForm::kByteAndMinimum ||
           scale_form == ScaleForm::kTwoNibblePairs || scale_form == ScaleForm::kOfUnit;
  }
  /// Whether elements 0-15 and 16-31 of a group have scales of their own.
  constexpr bool has_halves() const { return scale_form == ScaleForm::kTwoBytes || scale_form == ScaleForm::kTwoNibblePairs; }
  /// Whether a unit begins with float16 scales that its groups' ones multiply.
  constexpr bool has_unit_scale() const { return unit_scale_bytes() != 0; }
  /// Whether a minimum is stored as what is subtracted.
  constexpr bool takes_minimum_off() const { return scale_form == ScaleForm::kByteAndMinimum || scale_form == ScaleForm::kTwoNibblePairs; }
  constexpr size_t unit_scale_bytes() const {
    switch (scale_form) {
      case ScaleForm::kByte:
      case ScaleForm::kTwoBytes:
        return kHalfRow;
      case ScaleForm::kByteAndMinimum:
      case ScaleForm::kTwoNibblePairs:
      case ScaleForm::kOfUnit:
        return 2 * kHalfRow;
      default:
        return 0;
    }
  }
  constexpr size_t group_scale_bytes() const {
    switch (scale_form) {
      case ScaleForm::kPowerOfTwo:
      case ScaleForm::kByte:
        return kPackRows;
      case ScaleForm::kHalfAndMinimum:
        return 2 * kHalfRow;
      case ScaleForm::kOfUnit:
        return 0;
      default:
        return kHalfRow;
    }
  }
  constexpr size_t low_plane_bytes() const { return kPackRows * kPackGroup / 8 * low_bits; }
  constexpr size_t code_bytes() const { return low_plane_bytes() + kPackRows * kPackGroup / 8 * high_bits; }
  constexpr size_t all_scales_bytes() const { return unit_scale_bytes() + unit_groups * group_scale_bytes(); }
  /// Bytes before a unit's codes.
  constexpr size_t header_bytes() const { return (all_scales_bytes() + kPackAlignment - 1) / kPackAlignment * kPackAlignment; }
  constexpr size_t unit_bytes() const { return header_bytes() + unit_groups * code_bytes(); }

  constexpr size_t unit_at(size_t group) const { return group / unit_groups * unit_bytes(); }
  constexpr size_t scales_at(size_t group) const { return unit_at(group) + unit_scale_bytes() + group % unit_groups * group_scale_bytes(); }
  constexpr size_t codes_at(size_t group) const { return unit_at(group) + header_bytes() + group % unit_groups * code_bytes(); }
};

/// Bytes of 16 x 256 weights over 16: Q8_0 272, Q4_0 and IQ4_NL 144, Q4_1 160, Q5_0 176, Q5_1 192, MXFP4 136, and as the file has them, or
/// a few more, Q2_K 84, Q3_K 116 (110), Q4_K 148 (144), Q5_K 180 (176), Q6_K 212 (210), IQ4_XS 140 (136): their 6-bit scales become bytes.
/// Our own: O2 and N2 80, O3 and N3 112, O4 and N4 144, with blocks of 128 72, 104 and 136.
inline constexpr GroupLayout kGroupLayouts[] = {
    {PackedKind::kQ8_0, DType::kQ8_0, 2, 8, 0, 128, ScaleForm::kHalf},
    {PackedKind::kQ4_0, DType::kQ4_0, 2, 4, 0, 8, ScaleForm::kHalf},
    {PackedKind::kQ4_1, DType::kQ4_1, 1, 4, 0, 0, ScaleForm::kHalfAndMinimum},
    {PackedKind::kQ5_0, DType::kQ5_0, 2, 4, 1, 16, ScaleForm::kHalf},
    {PackedKind::kQ5_1, DType::kQ5_1, 1, 4, 1, 0, ScaleForm::kHalfAndMinimum},
    {PackedKind::kQ2_K, DType::kQ2_K, 8, 2, 0, 0, ScaleForm::kTwoNibblePairs},
    {PackedKind::kQ3_K, DType::kQ3_K, 8, 2, 1, 4, ScaleForm::kTwoBytes},
    {PackedKind::kQ4_K, DType::kQ4_K, 8, 4, 0, 0, ScaleForm::kByteAndMinimum},
    {PackedKind::kQ5_K, DType::kQ5_K, 8, 4, 1, 0, ScaleForm::kByteAndMinimum},
    {PackedKind::kQ6_K, DType::kQ6_K, 8, 4, 2, 32, ScaleForm::kTwoBytes},
    {PackedKind::kIQ4_NL, DType::kIQ4_NL, 2, 4, 0, 128, ScaleForm::kHalf, Codebook::kNonLinear},
    {PackedKind::kIQ4_XS, DType::kIQ4_XS, 8, 4, 0, 128, ScaleForm::kByte, Codebook::kNonLinear},
    {PackedKind::kMXFP4, DType::kMXFP4, 4, 4, 0, 16, ScaleForm::kPowerOfTwo, Codebook::kFloat4Doubled},
    {PackedKind::kO2, DType::kO2, 2, 2, 0, 0, ScaleForm::kOfUnit},
    {PackedKind::kO3, DType::kO3, 2, 2, 1, 0, ScaleForm::kOfUnit},
    {PackedKind::kO4, DType::kO4, 2, 4, 0, 0, ScaleForm::kOfUnit},
    {PackedKind::kN2, DType::kN2, 2, 2, 0, 0, ScaleForm::kOfUnit, Codebook::kOwn2},
    {PackedKind::kN3, DType::kN3, 2, 2, 1, 0, ScaleForm::kOfUnit, Codebook::kOwn3},
    {PackedKind::kN4, DType::kN4, 2, 4, 0, 0, ScaleForm::kOfUnit, Codebook::kOwn4},
    {PackedKind::kO2_128, DType::kO2_128, 4, 2, 0, 0, ScaleForm::kOfUnit},
    {PackedKind::kO3_128, DType::kO3_128, 4, 2, 1, 0, ScaleForm::kOfUnit},
    {PackedKind::kO4_128, DType::kO4_128, 4, 4, 0, 0, ScaleForm::kOfUnit},
    {PackedKind::kN2_128, DType::kN2_128, 4, 2, 0, 0, ScaleForm::kOfUnit, Codebook::kOwn2},
    {PackedKind::kN3_128, DType::kN3_128, 4, 2, 1, 0, ScaleForm::kOfUnit, Codebook::kOwn3},
    {PackedKind::kN4_128, DType::kN4_128, 4, 4, 0, 0, ScaleForm::kOfUnit, Codebook::kOwn4},
};

/// The layout of a quantised kind, or null for F32, F16 and BF16. Any thread.
const GroupLayout* find_group_layout(PackedKind kind);

/// The same where the kind is a constant: no function is left of it, which a file compiled for one instruction level must not give away.
consteval GroupLayout group_layout(PackedKind kind) {
  for (const GroupLayout& layout : kGroupLayouts) {
    if (layout.kind == kind) return layout;
  }
  throw "not a quantised kind";  // a compile-time error
}

/// Packs `rows` (1 to 16) rows of the file's layout into the row block at `dst`. The padding rows and groups it leaves alone.
void pack_group_rows(const GroupLayout& layout, const std::byte* src, size_t rows, size_t columns, std::byte* dst);

/// One row's group, taken apart. Element i has the value scale * sub_scale[i / 16] * codes[i] (+ minimum * sub_minimum[i / 16]), where
/// every product and sum is one float32 operation.
struct PackedGroup {
  int codes[kPackGroup];  ///< looked up, and less the zero point
  float scale, minimum;   ///< the unit's or the group's own; the minimum is 0 where there is none, negative where it is taken off
  int sub_scale[2], sub_minimum[2];  ///< 1 where the kind has none
  bool has_minimum;

  float value(size_t i) const {
    const float product = scale * static_cast<float>(sub_scale[i / 16]) * static_cast<float>(codes[i]);
    return has_minimum ? product + minimum * static_cast<float>(sub_minimum[i / 16]) : product;  // adding 0 would lose a sign
  }
};

/// Reads group `group` of row `row` (0 to 15) of the row block at `block`.
PackedGroup read_packed_group(const GroupLayout& layout, const std::byte* block, size_t group, size_t row);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_TENSOR_PACKED_LAYOUT_H_
