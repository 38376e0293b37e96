// Where a token's parts lie in a panel of int8 activations; see activations.h for the layout.
#ifndef OUTRIGGER_SRC_KERNELS_PANEL_H_
#define OUTRIGGER_SRC_KERNELS_PANEL_H_

#include <algorithm>
#include <cstring>

#include "src/kernels/activations.h"

namespace outrigger {

/// One token's view of the panel: the places of its codes, scale and sums in group g.
class PanelToken {
 public:
  PanelToken(std::byte* panel, size_t tokens, size_t width, size_t token)
      : tile_tokens_(std::min(kTokenTile, tokens - token / kTokenTile * kTokenTile)),
        lane_(token % kTokenTile),
        tile_(panel + activation_tile_offset(token - lane_, width)) {}

  std::byte* codes(size_t group) const { return record(group) + lane_ * kGroup; }
  /// The four words of a token are tile_tokens words apart; memcpy them.
  std::byte* scale(size_t group) const { return word(group, 0); }
  std::byte* scaled_sum(size_t group) const { return word(group, 1); }
  std::byte* negative_sum(size_t group) const { return word(group, 2); }
  std::byte* negative_halves(size_t group) const { return word(group, 3); }

 private:
  std::byte* record(size_t group) const { return tile_ + group * tile_tokens_ * kTokenGroupBytes; }
  std::byte* word(size_t group, size_t index) const { return record(group) + tile_tokens_ * (kGroup + index * 4) + lane_ * 4; }

  size_t tile_tokens_;
  size_t lane_;
  std::byte* tile_;
};

/// Stores one group's scale and the sums of its halves in the four forms the panel has.
inline void store_scale_and_sums(const PanelToken& token, size_t group, float scale, int32_t first_half, int32_t second_half) {
  const int32_t sum = first_half + second_half, negative_sum = -sum;
  const float scaled_sum = scale * static_cast<float>(sum);
  const int16_t negative_halves[2] = {static_cast<int16_t>(-first_half), static_cast<int16_t>(-second_half)};
  std::memcpy(token.scale(group), &scale, 4);
  std::memcpy(token.scaled_sum(group), &scaled_sum, 4);
  std::memcpy(token.negative_sum(group), &negative_sum, 4);
  std::memcpy(token.negative_halves(group), negative_halves, 4);
}

/// Groups below this are zeros: so that 127 / amax stays finite, and a scale times a float16 one stays a normal number.
inline constexpr float kLeastAmax = 0x1p-90f;

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_PANEL_H_
