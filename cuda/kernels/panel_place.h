// Where a token's group lies in a panel of int8 activations, on the device; src/kernels/activations.h has the layout.
#ifndef OUTRIGGER_CUDA_KERNELS_PANEL_PLACE_H_
#define OUTRIGGER_CUDA_KERNELS_PANEL_PLACE_H_

#include "cuda/kernels/device_code.h"
#include "src/kernels/activations.h"

namespace outrigger::cuda {

class PanelPlace {
 public:
  OTR_DEVICE PanelPlace(const QuantizeArgs& args, size_t token, uint32_t group)
      : lane_(static_cast<uint32_t>(token % kTokenTile)),
        tile_tokens_(static_cast<uint32_t>(args.tokens - (token - lane_) < kTokenTile ? args.tokens - (token - lane_) : kTokenTile)),
        record_(args.panel + (token - lane_) * (args.width / kGroup) * kTokenGroupBytes + size_t{group} * tile_tokens_ * kTokenGroupBytes) {
  }

  /// Eight words of four codes each.
  OTR_DEVICE uint32_t* codes() const { return reinterpret_cast<uint32_t*>(record_ + lane_ * kGroup); }
  /// 0 the scale, 1 the scaled sum, 2 the negative sum, 3 the negative halves.
  OTR_DEVICE uint32_t* word(uint32_t index) const {
    return reinterpret_cast<uint32_t*>(record_ + tile_tokens_ * (kGroup + index * 4) + lane_ * 4);
  }

 private:
  uint32_t lane_, tile_tokens_;
  std::byte* record_;
};

}  // namespace outrigger::cuda

#endif  // OUTRIGGER_CUDA_KERNELS_PANEL_PLACE_H_
