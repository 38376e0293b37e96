// The matrices of a dense layer, in the order of a step.
#ifndef OUTRIGGER_SRC_FORWARD_DENSE_LAYER_H_
#define OUTRIGGER_SRC_FORWARD_DENSE_LAYER_H_

#include <array>
#include <cstdint>

#include "src/model/layout.h"

namespace outrigger {

/// q, k, v, output, gate, up and down.
inline std::array<uint32_t, 7> matrices_of(const LayerLayout& layer) {
  return {layer.q, layer.k, layer.v, layer.output, layer.ffn.gate, layer.ffn.up, layer.ffn.down};
}

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_FORWARD_DENSE_LAYER_H_
