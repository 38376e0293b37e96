// RoPE: the definition.
#include <cmath>

#include "src/kernels/rope.h"

namespace outrigger {

void rope_ref(const RopeArgs& args) {
  const size_t pairs = args.rotary_dim / 2;
  const bool is_interleaved = args.style == RopeStyle::kInterleaved;
  for (size_t t = 0; t < args.tokens; ++t) {
    for (size_t h = 0; h < args.heads; ++h) {
      float* head = args.x + t * args.stride + h * args.head_dim;
      for (size_t i = 0; i < pairs; ++i) {
        float& first = is_interleaved ? head[2 * i] : head[i];
        float& second = is_interleaved ? head[2 * i + 1] : head[i + pairs];
        const float* cos_sin = args.cos_sin + (t * pairs + i) * 2;
        const float a = first, b = second;
        first = std::fma(a, cos_sin[0], -(b * cos_sin[1]));
        second = std::fma(b, cos_sin[0], a * cos_sin[1]);
      }
    }
  }
}

}  // namespace outrigger
