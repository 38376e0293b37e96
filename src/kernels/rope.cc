// RoPE: runs the version for the level in use.
#include "src/kernels/rope.h"

#include "src/kernels/dispatch.h"

namespace outrigger {

void rope(const RopeArgs& args) { OTR_VERSION(rope)(args); }

}  // namespace outrigger
