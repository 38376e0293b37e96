// Int8 activations: the size of a panel, and the version for the level in use.
#include "src/kernels/activations.h"

#include "src/kernels/dispatch.h"

namespace outrigger {

uint64_t activation_panel_bytes(size_t tokens, size_t width) {
  return (uint64_t{tokens} * (width / kGroup) * kTokenGroupBytes + 63) / 64 * 64;
}

void quantize_activations(const QuantizeArgs& args, size_t token_begin, size_t token_end) {
  OTR_VERSION(quantize_activations)(args, token_begin, token_end);
}

}  // namespace outrigger
