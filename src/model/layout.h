// ModelLayout: which tensor of the file plays which part, checked in name, type and shape.
#ifndef OUTRIGGER_SRC_MODEL_LAYOUT_H_
#define OUTRIGGER_SRC_MODEL_LAYOUT_H_

#include <outrigger/status.h>
#include <outrigger/step_shape.h>

#include <cstdint>
#include <string>
#include <vector>

#include "src/io/gguf.h"
#include "src/memory/residency.h"
#include "src/model/config.h"
#include "src/model/step_buffers.h"

namespace outrigger {

/// A small tensor that is always resident, as float32 [elements] at `offset` floats into the fixed memory.
struct FixedTensor {
  DType type = DType::kF32;
  uint64_t file_offset = 0, file_bytes = 0;
  uint64_t elements = 0;
  uint64_t offset = 0;
};

/// Instead of an offset into the fixed memory: the model has no such tensor.
inline constexpr uint64_t kNoTensor = UINT64_MAX;

/// Three matrices of a feed-forward block, or three stacks of them: indices into StepShape::matrices.
struct FfnLayout {
  uint32_t gate = 0, up = 0, down = 0;
};

/// Indices into StepShape::matrices, and offsets in floats into the fixed memory.
struct LayerLayout {
  uint32_t q = 0, k = 0, v = 0, output = 0;
  FfnLayout ffn;                                          ///< of a mixture: the experts' stacks
  uint32_t router = 0;                                    ///< [experts, width]; of a mixture
  FfnLayout shared;                                       ///< the expert that every token passes, if config.shared_ffn_width > 0
  uint64_t shared_gate = kNoTensor;                       ///< [width]: how much of its result a token takes
  uint64_t attention_norm = 0, ffn_norm = 0;
  uint64_t query_norm = kNoTensor, key_norm = kNoTensor;  ///< [head_dim], for every head
};

/// Says in a file with sparse residuals how many of their bytes a token reads on average.
inline constexpr const char* kResidualReadsKey = "outrigger.residual.read_bytes_per_token";

inline constexpr uint32_t kNoMatrix = UINT32_MAX;

/// What corrects a matrix: y += B (A x). The window's A are multiplied with it; their results, the components of all its branches side by
/// side, are what its B are multiplied with.
struct BranchLayout {
  uint32_t a = kNoMatrix, b = kNoMatrix;  ///< indices into StepShape::matrices: [rank, columns] and [rows, rank]
  uint32_t rank = 0;                      ///< 0: the matrix has none
  uint32_t first_component = 0;           ///< among the window's
};

/// What a matrix lost, of which each token reads the columns that matter to it: y += bias + R (x - means), by columns
/// (src/kernels/sparse_residual.h). Of a stack all of it is there for each expert, one after the other.
struct ResidualLayout {
  DType type = DType::kQ4_0;
  uint64_t file_offset = 0, file_bytes = 0;  ///< [columns, rows] in the type's blocks; 0 bytes: the matrix has none
  uint64_t offset = 0;                       ///< into the residuals' memory
  uint32_t experts = 1;
  /// Fixed tensors: [columns], [columns], [rows], [33]
  uint64_t norms = kNoTensor, means = kNoTensor, bias = kNoTensor, thresholds = kNoTensor;
};

enum class MatrixRole : uint8_t { kWeights, kBranchIn, kBranchOut };

struct ModelLayout {
  ModelConfig config;
  uint64_t vocabulary = 0;
  StepShape shape;                       ///< matrices in execution order
  std::vector<WeightSource> weights;     ///< parallel to shape.matrices
  std::vector<uint64_t> biases;          ///< parallel to shape.matrices: offset of [rows], or kNoTensor
  std::vector<BranchLayout> branches;    ///< parallel to shape.matrices
  std::vector<ResidualLayout> residuals; ///< parallel to shape.matrices
  std::vector<uint32_t> corrects;        ///< parallel to shape.matrices: of a branch's factor the matrix it belongs to, else kNoMatrix
  PanelKinds panels;                     ///< what they ask for
  std::vector<LayerLayout> layers;
  std::vector<FixedTensor> fixed;
  uint32_t head = 0, embedding = 0;      ///< the same matrix when they are tied
  uint64_t output_norm = 0;
  uint64_t rope_factors = kNoTensor;     ///< [rope_dim / 2] divisors of the frequencies: how GGUF files state llama3 scaling

  MatrixRole role(uint32_t matrix) const {
    if (corrects[matrix] == kNoMatrix) return MatrixRole::kWeights;
    return branches[corrects[matrix]].a == matrix ? MatrixRole::kBranchIn : MatrixRole::kBranchOut;
  }
};

/// Precondition: `config` was read from `file`.
/// An optional bias (Presence::kIfPresent) that the first layer has is needed in all of them. The experts of a layer are one tensor
/// "ffn_gate_exps.weight" [width, ffn, experts], or a tensor for each: "ffn_gate_exps.E.weight", or "ffn_gate.E.weight" as files of 2023
/// have them. A layer's matrix "blk.N.attn_q.weight" [columns, rows] may have a branch, "blk.N.attn_q.branch_a" [columns, rank] and
/// "blk.N.attn_q.branch_b" [rank, rows], of types that are multiplied with int8; rank is a multiple of 32. It may have a sparse residual
/// "blk.N.attn_q.residual" [rows, columns] of Q4_0 or IQ4_NL, with "residual_norms" [columns], "residual_means" [columns], "residual_bias"
/// [rows] and "residual_thresholds" [33]. So may a layer's experts, "blk.N.ffn_up_exps.residual" [rows, columns, experts], each of the
/// others with the experts as one more dimension; they have no branches.
/// Errors: kCorruptFile for a tensor that is missing or has another shape than the config implies (named, with both shapes); kUnsupported
/// for a weight type without kernels, and for tensors this architecture's computation has no place for (named: they would be ignored).
Result<ModelLayout> lay_out_model(const GgufFile& file, const ModelConfig& config);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_LAYOUT_H_
