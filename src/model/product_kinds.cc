// Product kinds: a window's one panel, and where it is kept more exactly.
#include "src/model/product_kinds.h"

#include "src/tensor/packed.h"

namespace outrigger {
namespace {

// A window has one panel. Where its matrices ask for different ones, int8 wins, and bf16 weights are multiplied with float32.
ProductKind product_of(const ModelLayout& layout, uint32_t matrix) {
  if (takes_int8_activations(layout.weights[matrix].kind)) return ProductKind::kInt8;
  if (!takes_bf16_activations(layout.weights[matrix].kind)) return ProductKind::kFloat32;
  const std::vector<MatrixShape>& matrices = layout.shape.matrices;
  uint32_t first = matrix;
  while (first > 0 && matrices[first - 1].window == matrices[matrix].window) --first;
  for (uint32_t m = first; m < matrices.size() && matrices[m].window == matrices[matrix].window; ++m) {
    if (takes_int8_activations(layout.weights[m].kind)) return ProductKind::kFloat32;
  }
  return ProductKind::kBf16;
}

}  // namespace

// Inputs of v and of the head are kept to about 15 bits, as two panels: rounding them to one is 40 % of the whole path's KL to float32
// (docs/numerics.md), and v is 2 to 3 % of a layer's weights where heads share keys. q and k would take off another tenth, for four times
// as many weights and more.
void name_products(ModelLayout& layout) {
  std::vector<MatrixShape>& matrices = layout.shape.matrices;
  for (uint32_t i = 0; i < matrices.size(); ++i) matrices[i].product = product_of(layout, i);
  const auto refine = [&](uint32_t matrix) {
    if (matrices[matrix].product == ProductKind::kInt8) matrices[matrix].product = ProductKind::kInt8Twice;
  };
  for (const LayerLayout& layer : layout.layers) refine(layer.v);
  refine(layout.head);
}

}  // namespace outrigger
