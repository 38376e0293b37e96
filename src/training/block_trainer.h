// BlockTrainer: one layer with branches, and what the distance of its outputs from wanted ones says of the factors.
#ifndef OUTRIGGER_SRC_TRAINING_BLOCK_TRAINER_H_
#define OUTRIGGER_SRC_TRAINING_BLOCK_TRAINER_H_

#include <outrigger/status.h>

#include <cstdint>
#include <span>
#include <vector>

#include "src/forward/float_matrix.h"
#include "src/memory/leased_vector.h"
#include "src/model/model_impl.h"
#include "src/training/layer_pass.h"

namespace outrigger {

/// Everything in float32, every sum in an order that does not depend on the number of threads. All spans are [tokens, width].
/// Memory: the layer's matrices, twice where it can go back, and what a text leaves in one layer.
/// Threads: one call at a time. Calls may throw std::bad_alloc.
class BlockTrainer {
 public:
  /// For texts of `tokens` tokens. Preconditions: the layout of a dense model; `model`, `fixed` (its fixed tensors) and `team` outlive the
  /// object.
  BlockTrainer(const Model::Impl& model, const float* fixed, size_t tokens, ThreadTeam& team);

  /// The layer's matrices as `reader` gives them, without branches, in the place of the last one's. Errors: those of read_layer().
  Status set_layer(uint32_t layer, const MatrixReader& reader, bool can_go_back);
  /// One of the layer's, by its index in the layout.
  BranchedMatrix& matrix(uint32_t matrix);

  /// `next` = the layer of `residual`; may be the same.
  void forward(std::span<const float> residual, std::span<float> next);
  /// block_loss() of the layer of `residual`.
  double loss(std::span<const float> residual, std::span<const float> wanted);
  /// The same, and sets the gradients of all branches' factors, and in `fixed_gradients`, parallel to the fixed tensors, those of the
  /// layer's norms; null: not asked for. Precondition: it can go back.
  double loss_and_gradients(std::span<const float> residual, std::span<const float> wanted, float* fixed_gradients = nullptr);

 private:
  const Model::Impl& model_;
  const ModelConfig& config_;
  ThreadTeam& team_;
  uint32_t layer_ = 0;
  LayerPass pass_;
  LayerMatrices matrices_;
  LayerTape tape_;
  LeasedVector<float> output_, gradient_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_TRAINING_BLOCK_TRAINER_H_
