// BranchTrainer: the teacher once for all pieces, the student for each step.
#include "src/training/branch_trainer.h"

#include "src/base/macros.h"
#include "src/model/fixed_tensors.h"
#include "src/training/elementwise_backward.h"
#include "src/training/layer_reading.h"

namespace outrigger {

BranchTrainer::BranchTrainer(const Model::Impl& model, std::vector<Piece> pieces, size_t tokens, ThreadTeam& team)
    : model_(model),
      layout_(*model.layout),
      pieces_(std::move(pieces)),
      tokens_(tokens),
      team_(team),
      fixed_(layout_.shape.fixed_bytes / sizeof(float)),
      teacher_outputs_(pieces_.size()),
      layers_(layout_.config.layers),
      by_index_(layout_.weights.size()),
      tapes_(layout_.config.layers),
      residual_(tokens * layout_.config.width),
      output_(residual_.size()),
      gradient_(residual_.size()) {}

Result<std::unique_ptr<BranchTrainer>> BranchTrainer::create(const Model::Impl& model, const MatrixReader& student,
                                                             std::vector<Piece> pieces, size_t tokens, ThreadTeam& team,
                                                             const std::function<Status()>& layer_done) {
  std::unique_ptr<BranchTrainer> trainer(new BranchTrainer(model, std::move(pieces), tokens, team));
  OTR_TRY(load_fixed_tensors(model.file, *model.layout, trainer->fixed_.data()));
  trainer->pass_ = std::make_unique<LayerPass>(*model.layout, trainer->fixed_.data(), tokens, team);
  OTR_TRY(trainer->read_teacher(layer_done));
  OTR_TRY(trainer->read_student(student));
  return trainer;
}

Status BranchTrainer::read_teacher(const std::function<Status()>& layer_done) {
  const MatrixReader reader = own_matrices(model_);
  for (size_t i = 0; i < pieces_.size(); ++i) {
    OTR_ASSIGN(teacher_outputs_[i], embed_tokens(model_, pieces_[i]));
  }
  LayerMatrices matrices;
  LayerTape tape;
  for (uint32_t layer = 0; layer < layout_.config.layers; ++layer) {
    OTR_TRY(read_layer(model_, layer, reader, false, team_, &matrices));
    for (LeasedVector<float>& residual : teacher_outputs_) {
      tape.residual.swap(residual);
      residual.resize(tape.residual.size());
      pass_->forward(layer, matrices, &tape, residual);
    }
    OTR_TRY(layer_done());
  }
  for (LeasedVector<float>& output : teacher_outputs_) norm_output(layout_, fixed_.data(), output, output, team_);
  OTR_ASSIGN(const LeasedVector<float> head, read_checked(model_, layout_.head, reader));
  head_ = std::make_unique<HeadLoss>(head, layout_.vocabulary, layout_.config.width, team_);
  return {};
}

Status BranchTrainer::read_student(const MatrixReader& student) {
  for (uint32_t layer = 0; layer < layout_.config.layers; ++layer) {
    OTR_TRY(read_layer(model_, layer, student, true, team_, &layers_[layer]));
    const std::array<uint32_t, 7> indices = matrices_of(layout_.layers[layer]);
    const std::array<BranchedMatrix*, 7> targets = layers_[layer].all();
    for (size_t i = 0; i < indices.size(); ++i) by_index_[indices[i]] = targets[i];
  }
  return {};
}

Status BranchTrainer::run_forward(size_t piece, bool keeps_tapes) {
  OTR_ASSIGN(residual_, embed_tokens(model_, pieces_[piece]));
  for (uint32_t layer = 0; layer < layout_.config.layers; ++layer) {
    LayerTape& tape = tapes_[keeps_tapes ? layer : 0];
    tape.residual = residual_;
    pass_->forward(layer, layers_[layer], &tape, residual_);
  }
  norm_output(layout_, fixed_.data(), residual_, output_, team_);
  return {};
}

std::span<const float> BranchTrainer::norm_gradients() {
  norm_gradients_.resize(fixed_.size());
  return norm_gradients_;
}

Result<double> BranchTrainer::loss(size_t piece) {
  OTR_TRY(run_forward(piece, false));
  return head_->divergence(teacher_outputs_[piece], output_, nullptr);
}

Result<double> BranchTrainer::loss_and_gradients(size_t piece) {
  OTR_TRY(run_forward(piece, true));
  const ModelConfig& config = layout_.config;
  const double loss = head_->divergence(teacher_outputs_[piece], output_, gradient_.data());
  float* const of_norms = norm_gradients_.empty() ? nullptr : norm_gradients_.data();
  const RmsNormBackwardArgs output_norm{residual_.data(),
                                        fixed_.data() + layout_.output_norm,
                                        gradient_.data(),
                                        gradient_.data(),
                                        tokens_,
                                        1,
                                        config.width,
                                        config.width,
                                        config.norm_epsilon,
                                        false};
  if (of_norms != nullptr) rms_norm_weight_backward(output_norm, of_norms + layout_.output_norm, team_);
  rms_norm_backward(output_norm, team_);
  for (uint32_t layer = config.layers; layer-- > 0;) pass_->backward(layer, layers_[layer], tapes_[layer], gradient_, of_norms);
  return loss;
}

}  // namespace outrigger
