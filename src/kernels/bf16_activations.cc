// bf16 activations: runs the version for the level in use.
#include "src/kernels/bf16_activations.h"

#include "src/kernels/dispatch.h"

namespace outrigger {

void round_activations(const Bf16Args& args, size_t token_begin, size_t token_end) {
  OTR_VERSION(round_activations)(args, token_begin, token_end);
}

}  // namespace outrigger
