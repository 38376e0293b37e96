// BranchTrainer: a model with branches beside the one it came from, and what the distance between their outputs says of the factors.
#ifndef OUTRIGGER_SRC_TRAINING_BRANCH_TRAINER_H_
#define OUTRIGGER_SRC_TRAINING_BRANCH_TRAINER_H_

#include <outrigger/status.h>
#include <outrigger/tokenizer.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "src/forward/float_matrix.h"
#include "src/memory/leased_vector.h"
#include "src/model/model_impl.h"
#include "src/training/head_loss.h"
#include "src/training/layer_pass.h"
#include "src/training/polish_pieces.h"

namespace outrigger {

/// The student is the backbone with branches, the teacher the model itself; embeddings, head and biases are the model's own, and norms
/// until fixed() is written to.
/// Everything in float32, every sum in an order that does not depend on the number of threads. Threads: one call at a time. Calls may throw
/// std::bad_alloc.
class BranchTrainer {
 public:
  /// For pieces of `tokens` tokens each, all of which are known beforehand: `pieces`, tokens of the vocabulary. Computes what the teacher
  /// makes of them, a layer at a time, and calls `layer_done` after each. Preconditions: a layout of a dense model; `model`, `team` and
  /// what the spans show outlive the object. Errors: those of the reader and the callback; kInvalidArgument, with the tensor's name, for
  /// weights that are no numbers; kIo.
  static Result<std::unique_ptr<BranchTrainer>> create(const Model::Impl& model, const MatrixReader& student, std::vector<Piece> pieces,
                                                       size_t tokens, ThreadTeam& team, const std::function<Status()>& layer_done);

  BranchedMatrix& matrix(uint32_t matrix) { return *by_index_[matrix]; }
  /// The student's fixed tensors.
  std::span<float> fixed() { return fixed_; }
  /// Of the norms' weights, parallel to the fixed tensors: found from now on.
  std::span<const float> norm_gradients();

  /// The mean KL(teacher || student) over the tokens of a piece, in nats.
  Result<double> loss(size_t piece);
  /// The same, and sets the gradients of all branches' factors.
  Result<double> loss_and_gradients(size_t piece);

 private:
  BranchTrainer(const Model::Impl& model, std::vector<Piece> pieces, size_t tokens, ThreadTeam& team);
  Status read_teacher(const std::function<Status()>& layer_done);
  Status read_student(const MatrixReader& student);
  Status run_forward(size_t piece, bool keeps_tapes);

  const Model::Impl& model_;
  const ModelLayout& layout_;
  const std::vector<Piece> pieces_;
  const size_t tokens_;
  ThreadTeam& team_;
  LeasedVector<float> fixed_, norm_gradients_;  // the latter empty as long as nobody asks
  std::unique_ptr<LayerPass> pass_;
  std::unique_ptr<HeadLoss> head_;
  std::vector<LeasedVector<float>> teacher_outputs_;  // of each piece, after the last norm
  std::vector<LayerMatrices> layers_;
  std::vector<BranchedMatrix*> by_index_;  // parallel to the layout's matrices; null: not a layer's
  std::vector<LayerTape> tapes_;           // of each layer
  LeasedVector<float> residual_, output_, gradient_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_TRAINING_BRANCH_TRAINER_H_
