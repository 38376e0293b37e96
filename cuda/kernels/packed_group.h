// What one lane of a warp knows of a group of packed weights: the codes of four rows as a tensor core takes them, and their scales.
//
// A warp covers two row blocks, 32 rows, of one group of 32 k. Lane l has, with j = l / 4 % 4 and t = l % 4, rows 4j .. 4j + 3 of block l /
// 16, at the quads t and t + 4 of the group's eight. In a plane of four bits these two lie in the same word, and the four rows' words side
// by side: one load of 16 bytes a lane brings them, and 512 successive bytes of two blocks to the warp. The layout was made for the
// processor's vectors (src/tensor/packed_layout.h); it is the order of the tensor cores' operands as well, so nothing is repacked for a
// device.
#ifndef OUTRIGGER_CUDA_KERNELS_PACKED_GROUP_H_
#define OUTRIGGER_CUDA_KERNELS_PACKED_GROUP_H_

#include "cuda/kernels/device_code.h"
#include "src/tensor/packed_layout.h"

namespace outrigger::cuda {

inline constexpr uint32_t kLaneRows = 4;
inline constexpr uint32_t kWarpRows = 32;

/// Which part of a warp's work a lane has.
struct LanePlace {
  uint32_t block, rows, quad;  ///< the row block, 0 or 1; the first of its four rows in it; t

  OTR_DEVICE explicit LanePlace(uint32_t lane) : block(lane / 16), rows(lane / 4 % 4 * kLaneRows), quad(lane % 4) {}
};

OTR_DEVICE uint32_t word_of(const U4& words, uint32_t i) { return i == 0 ? words.x : i == 1 ? words.y : i == 2 ? words.z : words.w; }
OTR_DEVICE uint16_t half_of(const U2& halves, uint32_t i) { return static_cast<uint16_t>((i < 2 ? halves.x : halves.y) >> i % 2 * 16); }
OTR_DEVICE uint32_t byte_of(uint32_t word, uint32_t i) { return word >> 8 * i & 255; }
OTR_DEVICE int32_t signed_byte_of(uint32_t word, uint32_t i) { return static_cast<int8_t>(word >> 8 * i); }

/// Bits `bits` of the four bytes of a plane's word that belong to quad t (and to t + 4, which lies kUpper bits higher in the same word).
template <uint32_t kBits>
struct Plane {
  static constexpr uint32_t kMask = ((1u << kBits) - 1) * 0x01010101u;
  OTR_DEVICE static uint32_t line(uint32_t quad) { return quad % kBits; }
  OTR_DEVICE static uint32_t lower(uint32_t word, uint32_t quad) { return word >> quad / kBits * kBits & kMask; }
  OTR_DEVICE static uint32_t upper(uint32_t word, uint32_t quad) { return word >> (quad + 4) / kBits * kBits & kMask; }
};

/// A codebook's values, made unsigned by the layout's zero point, as four words of four.
template <PackedKind kKind>
struct CodebookWords {
  static constexpr uint32_t word(uint32_t i) {
    constexpr GroupLayout kLayout = group_layout(kKind);
    uint32_t result = 0;
    for (uint32_t b = 0; b < 4; ++b) {
      const int value = (kLayout.codebook == Codebook::kNonLinear ? kNonLinearValues : kFloat4Doubled)[4 * i + b] + kLayout.zero_point;
      result |= static_cast<uint32_t>(value) << 8 * b;
    }
    return result;
  }
  static constexpr uint32_t kFirst = word(0), kSecond = word(1), kThird = word(2), kFourth = word(3);

  /// Four codes of four bits, a byte each, looked up.
  OTR_DEVICE static uint32_t look_up(uint32_t codes) {
    const uint32_t pairs = (codes | codes >> 4) & 0x00ff00ffu, nibbles = (pairs | pairs >> 8) & 0xffffu;
    const uint32_t low = permute_bytes(kFirst, kSecond, nibbles & 0x7777u), high = permute_bytes(kThird, kFourth, nibbles & 0x7777u);
    return permute_bytes(low, high, (nibbles >> 1 & 0x4444u) | 0x3210u);
  }
};

/// Where a group lies in a row block: GroupLayout's places, as numbers that need no object on the device.
template <PackedKind kKind>
struct GroupPlaces {
  static constexpr GroupLayout kLayout = group_layout(kKind);
  static constexpr uint32_t kUnitGroups = kLayout.unit_groups, kUnitBytes = static_cast<uint32_t>(kLayout.unit_bytes()),
                            kUnitScaleBytes = static_cast<uint32_t>(kLayout.unit_scale_bytes()),
                            kGroupScaleBytes = static_cast<uint32_t>(kLayout.group_scale_bytes()),
                            kHeaderBytes = static_cast<uint32_t>(kLayout.header_bytes()),
                            kCodeBytes = static_cast<uint32_t>(kLayout.code_bytes());

  OTR_DEVICE static uint64_t unit_at(uint32_t group) { return uint64_t{group / kUnitGroups} * kUnitBytes; }
  OTR_DEVICE static uint64_t scales_at(uint32_t group) { return unit_at(group) + kUnitScaleBytes + group % kUnitGroups * kGroupScaleBytes; }
  OTR_DEVICE static uint64_t codes_at(uint32_t group) { return unit_at(group) + kHeaderBytes + group % kUnitGroups * kCodeBytes; }
};

/// A lane's codes of a group, unsigned: lower[r] at k = 4t .. 4t + 3 of row r, upper[r] at k = 16 + 4t ..
struct LaneCodes {
  uint32_t lower[kLaneRows], upper[kLaneRows];
};

/// A lane's scales of a group. Fields that the kind has no use for are not set.
struct LaneScales {
  float scale[kLaneRows];                                      ///< times the group's own where it has one for all 32 elements
  float minimum[kLaneRows];                                    ///< likewise; negative where it is taken off
  int32_t sub_scale[kLaneRows][2], sub_minimum[kLaneRows][2];  ///< where halves have their own
};

/// A group as it lies in memory, for one lane: loaded early, taken apart when it is needed.
template <PackedKind kKind>
class LaneGroup {
  using Places = GroupPlaces<kKind>;
  static constexpr GroupLayout kLayout = group_layout(kKind);
  static constexpr bool kIsWhole = kLayout.low_bits == 8;
  static constexpr bool kHasSubWord = kLayout.scale_form == ScaleForm::kPowerOfTwo || kLayout.scale_form == ScaleForm::kByte ||
                                      kLayout.scale_form == ScaleForm::kByteAndMinimum;
  static constexpr bool kHasSubPair = kLayout.has_halves();

 public:
  /// Loads group `group` of the row block at `block`.
  OTR_DEVICE void load(const std::byte* block, uint32_t group, const LanePlace& place) {
    const std::byte* const codes = block + Places::codes_at(group) + place.rows * 4;
    if constexpr (kIsWhole) {
      low_[0] = load_once(reinterpret_cast<const U4*>(codes + place.quad * kQuadRow));
      low_[1] = load_once(reinterpret_cast<const U4*>(codes + (place.quad + 4) * kQuadRow));
    } else {
      low_[0] = load_once(reinterpret_cast<const U4*>(codes + Plane<kLayout.low_bits>::line(place.quad) * kQuadRow));
    }
    if constexpr (kLayout.high_bits != 0) {
      const uint32_t line = Plane<kLayout.high_bits>::line(place.quad);
      high_ = load_once(reinterpret_cast<const U4*>(codes + kLayout.low_plane_bytes() + line * kQuadRow));
    }
    load_scales(block + Places::unit_at(group), block + Places::scales_at(group), place);
  }

  OTR_DEVICE LaneCodes codes(const LanePlace& place) const {
    LaneCodes result;
    OTR_UNROLL
    for (uint32_t r = 0; r < kLaneRows; ++r) {
      uint32_t lower, upper;
      if constexpr (kIsWhole) {
        lower = word_of(low_[0], r), upper = word_of(low_[1], r);
      } else {
        const uint32_t word = word_of(low_[0], r);
        lower = Plane<kLayout.low_bits>::lower(word, place.quad), upper = Plane<kLayout.low_bits>::upper(word, place.quad);
      }
      if constexpr (kLayout.high_bits != 0) {
        const uint32_t word = word_of(high_, r);
        lower |= Plane<kLayout.high_bits>::lower(word, place.quad) << kLayout.low_bits;
        upper |= Plane<kLayout.high_bits>::upper(word, place.quad) << kLayout.low_bits;
      }
      if constexpr (kLayout.codebook != Codebook::kNone)
        lower = CodebookWords<kKind>::look_up(lower), upper = CodebookWords<kKind>::look_up(upper);
      result.lower[r] = lower, result.upper[r] = upper;
    }
    return result;
  }

  OTR_DEVICE LaneScales scales() const {
    LaneScales result;
    OTR_UNROLL
    for (uint32_t r = 0; r < kLaneRows; ++r) {
      if constexpr (kLayout.scale_form == ScaleForm::kPowerOfTwo) {
        const uint32_t exponent = byte_of(subs_.x, r);
        result.scale[r] = as_float(exponent < 2 ? 0x00200000u << exponent : (exponent - 1) << 23);
      } else {
        result.scale[r] = half_to_float(half_of(scale_, r));
      }
      if constexpr (kLayout.has_minimum()) {
        const float minimum = half_to_float(half_of(minimum_, r));
        result.minimum[r] = kLayout.takes_minimum_off() ? -minimum : minimum;
      }
      if constexpr (kLayout.scale_form == ScaleForm::kByte) result.scale[r] *= static_cast<float>(signed_byte_of(subs_.x, r));
      if constexpr (kLayout.scale_form == ScaleForm::kByteAndMinimum) {
        result.scale[r] *= static_cast<float>(byte_of(subs_.x, r));
        result.minimum[r] *= static_cast<float>(byte_of(subs_.y, r));
      }
      if constexpr (kHasSubPair) {
        OTR_UNROLL
        for (uint32_t h = 0; h < 2; ++h) {
          const uint32_t word = r < 2 ? subs_.x : subs_.y, at = r % 2 * 2 + h;
          if constexpr (kLayout.scale_form == ScaleForm::kTwoBytes) {
            result.sub_scale[r][h] = signed_byte_of(word, at);
          } else {
            result.sub_scale[r][h] = static_cast<int32_t>(byte_of(word, at) & 15);
            result.sub_minimum[r][h] = static_cast<int32_t>(byte_of(word, at) >> 4);
          }
        }
      }
    }
    return result;
  }

 private:
  OTR_DEVICE static U2 halves_at(const std::byte* src, const LanePlace& place) {
    return *reinterpret_cast<const U2*>(src + place.rows * 2);
  }
  OTR_DEVICE static uint32_t bytes_at(const std::byte* src, const LanePlace& place) {
    return *reinterpret_cast<const uint32_t*>(src + place.rows);
  }

  OTR_DEVICE void load_scales(const std::byte* unit, const std::byte* scales, const LanePlace& place) {
    if constexpr (kLayout.has_unit_scale()) {
      scale_ = halves_at(unit, place);
      if constexpr (kLayout.has_minimum()) minimum_ = halves_at(unit + kHalfRow, place);
    } else if constexpr (kLayout.scale_form != ScaleForm::kPowerOfTwo) {
      scale_ = halves_at(scales, place);
      if constexpr (kLayout.has_minimum()) minimum_ = halves_at(scales + kHalfRow, place);
    }
    if constexpr (kHasSubWord) {
      subs_.x = bytes_at(scales, place);
      if constexpr (kLayout.scale_form == ScaleForm::kByteAndMinimum) subs_.y = bytes_at(scales + kPackRows, place);
    }
    if constexpr (kHasSubPair) subs_ = halves_at(scales, place);
  }

  U4 low_[kIsWhole ? 2 : 1];
  U4 high_;
  U2 scale_, minimum_, subs_;
};

}  // namespace outrigger::cuda

#endif  // OUTRIGGER_CUDA_KERNELS_PACKED_GROUP_H_
