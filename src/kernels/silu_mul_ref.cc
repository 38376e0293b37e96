// SwiGLU's middle: the definition.
#include <cmath>

#include "src/kernels/silu_mul.h"

namespace outrigger {

void silu_mul_ref(const SiluMulArgs& args) {
  for (size_t i = 0; i < args.count; ++i) {
    const double gate = args.gate[i];
    args.dst[i] = static_cast<float>(gate / (1 + std::exp(-gate)) * args.up[i]);
  }
}

}  // namespace outrigger
