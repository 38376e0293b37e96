// MatrixPlan: what compressing is to make of each matrix.
#ifndef OUTRIGGER_SRC_COMPRESS_MATRIX_PLAN_H_
#define OUTRIGGER_SRC_COMPRESS_MATRIX_PLAN_H_

#include <outrigger/compress.h>

#include <array>
#include <cstdint>
#include <vector>

#include "src/model/layout.h"

namespace outrigger {

/// Of one of the layout's matrices, by its index. `bits` 0: it stays as it is.
struct MatrixPlan {
  int bits = 0;
  uint32_t rank = 0;  ///< of its branch, a multiple of 32; 0: none
  double share = 0;   ///< of its residual's columns that each token reads on average; 0: it keeps none
  double kl = 0, restored = 0;  ///< as CompressedMatrixReport has them; 0 where nothing was measured
};

/// What compressing is to make of a model. Plans are by matrix of the layout.
struct ModelPlan {
  std::vector<MatrixPlan> matrices;
  CompressSurvey survey;
};

/// Points of a survey's curve that are kept.
constexpr size_t kCurvePoints = 65;

constexpr size_t kKinds = 7;
constexpr const char* kKindNames[kKinds] = {"q", "k", "v", "output", "gate", "up", "down"};

/// q, k, v, output, gate, up and down of a dense layer: in the order of a step.
inline std::array<uint32_t, kKinds> matrices_of(const LayerLayout& layer) {
  return {layer.q, layer.k, layer.v, layer.output, layer.ffn.gate, layer.ffn.up, layer.ffn.down};
}

/// Those with the same inputs are a window: compressed together, in this order.
constexpr uint32_t kWindowsOfLayer = 4;
inline std::array<std::vector<uint32_t>, kWindowsOfLayer> windows_of(const LayerLayout& layer) {
  return {{{layer.q, layer.k, layer.v}, {layer.output}, {layer.ffn.gate, layer.ffn.up}, {layer.ffn.down}}};
}

/// The matrices of a dense model's layers, in the order of a step.
std::vector<uint32_t> matrices_of_layers(const ModelLayout& layout);

/// Bytes of a branch's factors. Precondition: columns and rank are multiples of 32.
uint64_t branch_bytes(uint64_t rows, uint64_t columns, uint32_t rank, int factor_bits);

/// Bytes of a matrix's sparse residual.
uint64_t residual_bytes(uint64_t rows, uint64_t columns);

/// The same share for all: that with which a token reads at most `read_bytes` on average.
void plan_uniform_shares(const ModelLayout& layout, uint64_t read_bytes, std::vector<MatrixPlan>* plans);

/// q 0, k 0, v 64, o 32, gate 32, up 16, down 32, as far as the matrices are large enough: rounded to whole groups of a factor.
/// @source HCInfer (arXiv 2605.05819), table 2, its reference configuration.
void plan_hcinfer_ranks(const ModelLayout& layout, std::vector<MatrixPlan>* plans);

/// The same rank for all, as far as the matrices are large enough: the largest multiple of 32 with which factors take at most `budget_bytes`.
void plan_uniform_ranks(const ModelLayout& layout, uint64_t budget_bytes, int factor_bits, std::vector<MatrixPlan>* plans);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_COMPRESS_MATRIX_PLAN_H_
