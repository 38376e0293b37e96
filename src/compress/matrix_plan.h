// MatrixPlan: what compressing is to make of each matrix.
#ifndef OUTRIGGER_SRC_COMPRESS_MATRIX_PLAN_H_
#define OUTRIGGER_SRC_COMPRESS_MATRIX_PLAN_H_

#include <outrigger/compress.h>

#include <cstdint>
#include <string>
#include <vector>

#include "src/model/layout.h"
#include "src/tensor/own_form.h"

namespace outrigger {

/// Of one of the layout's matrices, by its index. `bits` 0: it stays as it is.
struct MatrixPlan {
  int bits = 0;
  uint32_t rank = 0;            ///< of its branch, a multiple of 32; 0: none
  double share = 0;             ///< of its residual's columns that each token reads on average; 0: it keeps none
  double kl = 0, restored = 0;  ///< as CompressedMatrixReport has them; 0 where nothing was measured
  OwnForm form = {};

  /// Of the backbone. Precondition: bits is not 0.
  DType type() const { return *own_type(bits, form); }
};

/// Of some matrices, one at least. Precondition: none has 0.
int fewest_bits(std::span<const MatrixPlan> plans, std::span<const uint32_t> matrices);

/// What compressing is to make of a model. Plans are by matrix of the layout.
struct ModelPlan {
  std::vector<MatrixPlan> matrices;
  CompressSurvey survey;
  uint64_t needed_bytes = 0;  ///< of memory, to find it by a survey, at most; 0: there was none
};

/// Points of a survey's curve that are kept.
constexpr size_t kCurvePoints = 65;

/// What is compressed of a layer, in the order of a step: of a mixture the three of the shared expert, where there is one, before the
/// stacks of the others. The router stays as it is.
std::vector<uint32_t> compressed_matrices(const LayerLayout& layer);
/// Names of these kinds of matrices, the same for all layers.
std::vector<std::string> kinds_of(const ModelLayout& layout);
/// Those of all layers.
std::vector<uint32_t> matrices_of_layers(const ModelLayout& layout);

/// Whether it is the matrices of a layer's experts, which have no branches: what corrects them are residuals.
inline bool is_stack(const ModelLayout& layout, uint32_t matrix) { return layout.shape.matrices[matrix].use == MatrixUse::kRouted; }

/// What is compressed together, and kept together until the rest is there: matrices with the same inputs, or the three of one expert.
struct Window {
  std::vector<uint32_t> matrices;
  uint32_t expert = 0;  ///< of stacks
};
std::vector<Window> windows_of(const ModelLayout& layout, uint32_t layer);
/// So many has every layer.
uint32_t windows_of_layer(const ModelLayout& layout);

/// Bytes of a branch's factors. Precondition: columns and rank are multiples of 32.
uint64_t branch_bytes(uint64_t rows, uint64_t columns, uint32_t rank, int factor_bits);

/// Bytes of a matrix's sparse residual.
uint64_t residual_bytes(uint64_t rows, uint64_t columns);

/// Of one of the layout's matrices; of a stack, of all its experts.
uint64_t stored_residual_bytes(const ModelLayout& layout, uint32_t matrix);
/// Of these what a token has to do with and reads a share of: of a stack, those of the experts that it takes.
uint64_t reached_residual_bytes(const ModelLayout& layout, uint32_t matrix);

/// The same share for all: that with which a token reads at most `read_bytes` on average.
void plan_uniform_shares(const ModelLayout& layout, uint64_t read_bytes, std::vector<MatrixPlan>* plans);

/// q 0, k 0, v 64, o 32, gate 32, up 16, down 32, a shared expert's like these, as far as the matrices are large enough: rounded to whole
/// groups of a factor.
/// @source HCInfer (arXiv 2605.05819), table 2, its reference configuration.
void plan_hcinfer_ranks(const ModelLayout& layout, std::vector<MatrixPlan>* plans);

/// The same rank for all, as far as the matrices are large enough: the largest multiple of 32 with which factors take at most
/// `budget_bytes`.
void plan_uniform_ranks(const ModelLayout& layout, uint64_t budget_bytes, int factor_bits, std::vector<MatrixPlan>* plans);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_COMPRESS_MATRIX_PLAN_H_
