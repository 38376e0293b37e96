// SwiGLU: runs the version for the level in use.
#include "src/kernels/silu_mul.h"

#include "src/kernels/dispatch.h"

namespace outrigger {

void silu_mul(const SiluMulArgs& args) { OTR_VERSION(silu_mul)(args); }

}  // namespace outrigger
