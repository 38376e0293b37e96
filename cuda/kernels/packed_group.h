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
      const int value = codebook_values(kLayout.codebook)[4 * i + b] + kLayout.zero_point;
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

/// Groups that are loaded together: most kinds' share their scales' place, and ours the scales.
inline constexpr uint32_t kRunGroups = 2;

/// Registers that a run's loads take.
constexpr uint32_t run_words(const GroupLayout& layout) {
  const uint32_t codes = (layout.low_bits == 8 ? 8 : 4) + (layout.high_bits != 0 ? 4 : 0);
  const uint32_t scales = (layout.has_minimum() ? 4 : 2) / (layout.has_unit_scale() ? 2 : 1) +
                          (layout.has_unit_scale() && layout.group_scale_bytes() != 0 ? 2 : 0);
  return kRunGroups * (codes + scales);
}

/// A run of two groups as it lies in memory, for one lane: loaded early, taken apart when it is needed.
template <PackedKind kKind>
class LaneRun {
  static constexpr GroupLayout kLayout = group_layout(kKind);
  static constexpr bool kIsWhole = kLayout.low_bits == 8;
  static constexpr bool kHasSubWord = kLayout.scale_form == ScaleForm::kPowerOfTwo || kLayout.scale_form == ScaleForm::kByte ||
                                      kLayout.scale_form == ScaleForm::kByteAndMinimum;
  static constexpr bool kHasSubPair = kLayout.has_halves();
  static constexpr bool kHasUnitScale = kLayout.has_unit_scale();
  // Places in a unit, as numbers: a member function of the layout would need an object on the device.
  static constexpr uint32_t kUnitGroups = kLayout.unit_groups, kUnitBytes = static_cast<uint32_t>(kLayout.unit_bytes()),
                            kScalesAt = static_cast<uint32_t>(kLayout.unit_scale_bytes()),
                            kGroupScaleBytes = static_cast<uint32_t>(kLayout.group_scale_bytes()),
                            kCodesAt = static_cast<uint32_t>(kLayout.header_bytes()),
                            kCodeBytes = static_cast<uint32_t>(kLayout.code_bytes()),
                            kLowBytes = static_cast<uint32_t>(kLayout.low_plane_bytes());

 public:
  /// Where a lane's part of a run lies.
  struct Cursor {
    const std::byte *codes, *scales, *unit;

    OTR_DEVICE Cursor(const std::byte* block, uint32_t run, const LanePlace& place) {
      constexpr uint32_t kUnitRuns = kUnitGroups / kRunGroups;  // 0 where a run is two units
      const uint32_t first = kUnitRuns > 1 ? run % (kUnitRuns == 0 ? 1 : kUnitRuns) * kRunGroups : 0;
      unit = block + uint64_t{kUnitRuns > 1 ? run / (kUnitRuns == 0 ? 1 : kUnitRuns) : run} *
                         (kUnitRuns == 0 ? kRunGroups * kUnitBytes : kUnitBytes);
      codes = unit + kCodesAt + first * kCodeBytes + place.rows * 4 +
              (kIsWhole ? place.quad : Plane<kLayout.low_bits>::line(place.quad)) * kQuadRow;
      scales = unit + kScalesAt + first * kGroupScaleBytes + place.rows * (kHasSubWord ? 1 : 2);
      unit += place.rows * 2;
    }
    /// By so many groups, whole units.
    template <uint32_t kGroups>
    OTR_DEVICE void advance() {
      static_assert(kGroups % kUnitGroups == 0);
      constexpr uint32_t kBytes = kGroups / kUnitGroups * kUnitBytes;
      codes += kBytes, scales += kBytes, unit += kBytes;
    }
  };

  /// Loads groups 2 run and 2 run + 1 of the row block at `block`, of which there are `groups`.
  OTR_DEVICE void load(const std::byte* block, uint32_t run, uint32_t groups, const LanePlace& place) {
    load(Cursor(block, run, place), run * kRunGroups + 1 < groups, place);
  }
  /// Where there is no second group the first is loaded twice, so that no load waits for a branch.
  OTR_DEVICE void load(const Cursor& at, bool has_second, const LanePlace& place) {
    if constexpr (kHasUnitScale) {
      scale_[0] = *reinterpret_cast<const U2*>(at.unit);
      if constexpr (kLayout.has_minimum()) minimum_[0] = *reinterpret_cast<const U2*>(at.unit + kHalfRow);
    }
    load_group(0, at.scales, at.codes, place);
    if constexpr (kUnitGroups == 1) {
      const uint32_t second = has_second ? kUnitBytes : 0;
      load_group(1, at.scales + second, at.codes + second, place);
    } else {
      load_group(1, at.scales + kGroupScaleBytes, at.codes + kCodeBytes, place);  // a last unit is padded with groups of zeros
    }
  }

  OTR_DEVICE LaneCodes codes(uint32_t i, const LanePlace& place) const {
    LaneCodes result;
    OTR_UNROLL
    for (uint32_t r = 0; r < kLaneRows; ++r) {
      uint32_t lower, upper;
      if constexpr (kIsWhole) {
        lower = word_of(low_[i][0], r), upper = word_of(low_[i][1], r);
      } else {
        const uint32_t word = word_of(low_[i][0], r);
        lower = Plane<kLayout.low_bits>::lower(word, place.quad), upper = Plane<kLayout.low_bits>::upper(word, place.quad);
      }
      if constexpr (kLayout.high_bits != 0) {
        const uint32_t word = word_of(high_[i], r);
        lower |= Plane<kLayout.high_bits>::lower(word, place.quad) << kLayout.low_bits;
        upper |= Plane<kLayout.high_bits>::upper(word, place.quad) << kLayout.low_bits;
      }
      if constexpr (kLayout.codebook != Codebook::kNone)
        lower = CodebookWords<kKind>::look_up(lower), upper = CodebookWords<kKind>::look_up(upper);
      result.lower[r] = lower, result.upper[r] = upper;
    }
    return result;
  }

  OTR_DEVICE LaneScales scales(uint32_t i) const {
    LaneScales result;
    OTR_UNROLL
    for (uint32_t r = 0; r < kLaneRows; ++r) {
      if constexpr (kLayout.scale_form == ScaleForm::kPowerOfTwo) {
        const uint32_t exponent = byte_of(subs_[i].x, r);
        result.scale[r] = as_float(exponent < 2 ? 0x00200000u << exponent : (exponent - 1) << 23);
      } else {
        result.scale[r] = half_to_float(half_of(scale_[kHasUnitScale ? 0 : i], r));
      }
      if constexpr (kLayout.has_minimum()) {
        const float minimum = half_to_float(half_of(minimum_[kHasUnitScale ? 0 : i], r));
        result.minimum[r] = kLayout.takes_minimum_off() ? -minimum : minimum;
      }
      if constexpr (kLayout.scale_form == ScaleForm::kByte) result.scale[r] *= static_cast<float>(signed_byte_of(subs_[i].x, r));
      if constexpr (kLayout.scale_form == ScaleForm::kByteAndMinimum) {
        result.scale[r] *= static_cast<float>(byte_of(subs_[i].x, r));
        result.minimum[r] *= static_cast<float>(byte_of(subs_[i].y, r));
      }
      if constexpr (kHasSubPair) {
        OTR_UNROLL
        for (uint32_t h = 0; h < 2; ++h) {
          const uint32_t word = r < 2 ? subs_[i].x : subs_[i].y, at = r % 2 * 2 + h;
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
  OTR_DEVICE void load_group(uint32_t i, const std::byte* scales, const std::byte* codes, const LanePlace& place) {
    low_[i][0] = load_once(reinterpret_cast<const U4*>(codes));
    if constexpr (kIsWhole) low_[i][1] = load_once(reinterpret_cast<const U4*>(codes + 4 * kQuadRow));
    if constexpr (kLayout.high_bits != 0) {
      const uint32_t low_line = Plane<kLayout.low_bits>::line(place.quad), high_line = Plane<kLayout.high_bits>::line(place.quad);
      high_[i] = load_once(reinterpret_cast<const U4*>(codes + kLowBytes + high_line * kQuadRow - low_line * kQuadRow));
    }
    if constexpr (!kHasUnitScale && kLayout.scale_form != ScaleForm::kPowerOfTwo) {
      scale_[i] = *reinterpret_cast<const U2*>(scales);
      if constexpr (kLayout.has_minimum()) minimum_[i] = *reinterpret_cast<const U2*>(scales + kHalfRow);
    }
    if constexpr (kHasSubWord) {
      subs_[i].x = *reinterpret_cast<const uint32_t*>(scales);
      if constexpr (kLayout.scale_form == ScaleForm::kByteAndMinimum) subs_[i].y = *reinterpret_cast<const uint32_t*>(scales + kPackRows);
    }
    if constexpr (kHasSubPair) subs_[i] = *reinterpret_cast<const U2*>(scales);
  }

  U4 low_[kRunGroups][kIsWhole ? 2 : 1];
  U4 high_[kRunGroups];
  U2 scale_[kRunGroups], minimum_[kRunGroups], subs_[kRunGroups];
};

}  // namespace outrigger::cuda

#endif  // OUTRIGGER_CUDA_KERNELS_PACKED_GROUP_H_
