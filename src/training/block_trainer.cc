// BlockTrainer: a layer's way forward and back, with a loss between.
#include "src/training/block_trainer.h"

#include "src/base/macros.h"
#include "src/training/block_loss.h"
#include "src/training/layer_reading.h"

namespace outrigger {

BlockTrainer::BlockTrainer(const Model::Impl& model, const float* fixed, size_t tokens, ThreadTeam& team)
    : model_(model),
      config_(model.layout->config),
      team_(team),
      pass_(*model.layout, fixed, tokens, team),
      output_(tokens * config_.width),
      gradient_(output_.size()) {}

Status BlockTrainer::set_layer(uint32_t layer, const MatrixReader& reader, bool can_go_back) {
  layer_ = layer;
  matrices_ = {};  // the last one's memory, before this one's is taken
  return read_layer(model_, layer, reader, can_go_back, team_, &matrices_);
}

BranchedMatrix& BlockTrainer::matrix(uint32_t matrix) {
  const std::array<uint32_t, 7> indices = matrices_of(model_.layout->layers[layer_]);
  size_t i = 0;
  while (indices[i] != matrix) ++i;
  return *matrices_.all()[i];
}

void BlockTrainer::forward(std::span<const float> residual, std::span<float> next) {
  tape_.residual.assign(residual.begin(), residual.end());
  pass_.forward(layer_, matrices_, &tape_, next);
}

double BlockTrainer::loss(std::span<const float> residual, std::span<const float> wanted) {
  forward(residual, output_);
  return block_loss(wanted, output_, config_.width, nullptr, team_);
}

double BlockTrainer::loss_and_gradients(std::span<const float> residual, std::span<const float> wanted, float* fixed_gradients) {
  forward(residual, output_);
  const double loss = block_loss(wanted, output_, config_.width, gradient_.data(), team_);
  pass_.backward(layer_, matrices_, tape_, gradient_, fixed_gradients);
  return loss;
}

}  // namespace outrigger
