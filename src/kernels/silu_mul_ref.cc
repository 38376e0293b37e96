// SwiGLU's middle: the definition.
#include "src/kernels/exp_ref.h"
#include "src/kernels/silu_mul.h"

namespace outrigger {

void silu_mul_ref(const SiluMulArgs& args) {
  for (size_t i = 0; i < args.count; ++i) {
    const float gate = args.gate[i];
    args.dst[i] = gate / (1 + exp_ref(-gate)) * args.up[i];
  }
}

}  // namespace outrigger
