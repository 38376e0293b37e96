// Int8 activations: the size of a panel, and the version for the level in use.
#include "src/kernels/activations.h"

#include "src/kernels/dispatch.h"
#include "src/kernels/panel.h"

namespace outrigger {

uint64_t activation_panel_bytes(size_t tokens, size_t width) {
  return (uint64_t{tokens} * (width / kGroup) * kTokenGroupBytes + 63) / 64 * 64;
}

void quantization_remainder(const QuantizeArgs& args, size_t token_begin, size_t token_end, float* remainder) {
  for (size_t t = token_begin; t < token_end; ++t) {
    const PanelToken token(args.panel, args.tokens, args.width, t);
    for (size_t g = 0; g < args.width / kGroup; ++g) {
      float scale;
      int8_t codes[kGroup];
      std::memcpy(&scale, token.scale(g), sizeof scale);
      std::memcpy(codes, token.codes(g), kGroup);
      const size_t at = t * args.src_stride + g * kGroup;
      for (size_t i = 0; i < kGroup; ++i) remainder[at + i] = args.src[at + i] - static_cast<float>(codes[i]) * scale;
    }
  }
}

void quantize_activations(const QuantizeArgs& args, size_t token_begin, size_t token_end) {
  OTR_VERSION(quantize_activations)(args, token_begin, token_end);
}

}  // namespace outrigger
