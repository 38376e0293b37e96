// Int8 activations: the definition.
#include <cmath>
#include <limits>

#include "src/kernels/panel.h"

namespace outrigger {
namespace {

// The largest magnitude; infinity if any element is not finite.
float largest_magnitude(const float* src) {
  float amax = 0;
  for (size_t i = 0; i < kGroup; ++i) {
    if (!std::isfinite(src[i])) return std::numeric_limits<float>::infinity();
    amax = std::max(amax, std::fabs(src[i]));
  }
  return amax;
}

}  // namespace

void quantize_activations_ref(const QuantizeArgs& args, size_t token_begin, size_t token_end) {
  for (size_t t = token_begin; t < token_end; ++t) {
    const PanelToken token(args.panel, args.tokens, args.width, t);
    for (size_t g = 0; g < args.width / kGroup; ++g) {
      const float* src = args.src + t * args.src_stride + g * kGroup;
      const float amax = largest_magnitude(src);
      const bool has_codes = amax >= kLeastAmax && std::isfinite(amax);
      const float inverse = has_codes ? 127 / amax : 0;

      int8_t codes[kGroup] = {};
      int32_t halves[2] = {};
      for (size_t i = 0; has_codes && i < kGroup; ++i) {
        codes[i] = static_cast<int8_t>(std::nearbyint(src[i] * inverse));
        halves[i / (kGroup / 2)] += codes[i];
      }
      std::memcpy(token.codes(g), codes, kGroup);
      const float nan = std::numeric_limits<float>::quiet_NaN();
      store_scale_and_sums(token, g, has_codes ? amax / 127 : std::isfinite(amax) ? 0 : nan, halves[0], halves[1]);
    }
  }
}

}  // namespace outrigger
