// RMSNorm: runs the version for the level in use.
#include "src/kernels/rms_norm.h"

#include "src/kernels/dispatch.h"

namespace outrigger {

void rms_norm(const RmsNormArgs& args) { OTR_VERSION(rms_norm)(args); }

}  // namespace outrigger
