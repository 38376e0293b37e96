// BlockTrainer: its gradients against differences of its own losses, and its losses against what they are said to be.
#include "src/training/block_trainer.h"

#include <cmath>

#include "src/forward/dense_layer.h"
#include "src/model/fixed_tensors.h"
#include "src/training/block_loss.h"
#include "src/training/layer_reading.h"
#include "tests/support/engines.h"
#include "tests/support/model_files.h"
#include "tests/support/random_dense.h"
#include "tests/support/random_inputs.h"
#include "tests/training/branches.h"
#include "tests/training/gradient_check.h"

namespace outrigger::testing {
namespace {

constexpr size_t kTokens = 21;  // fills no block

/// A layer of a model, its matrices in eighths, with branches of small regular numbers.
struct Block {
  const Model& model;
  const ModelLayout& layout;
  uint32_t layer;
  std::unique_ptr<ThreadTeam> team;
  std::vector<float> fixed, residual, wanted;
  std::vector<TrainedBranch> branches;
  std::optional<BlockTrainer> trainer;

  Block(const Model& of, uint32_t index, size_t threads = 2)
      : model(of),
        layout(*of.impl()->layout),
        layer(index),
        team(must(ThreadTeam::create(threads))),
        fixed(layout.shape.fixed_bytes / sizeof(float)),
        residual(random_matrix(kTokens, layout.config.width, 3)),
        wanted(residual.size()) {
    must(load_fixed_tensors(model.impl()->file, layout, fixed.data()));
    trainer.emplace(*model.impl(), fixed.data(), kTokens, *team);
    must(trainer->set_layer(layer, own_matrices(*model.impl()), false));
    trainer->forward(residual, wanted);
    must(trainer->set_layer(
        layer, [this](uint32_t matrix) { return in_eighths(*model.impl(), matrix); }, true));
    for (const uint32_t matrix : matrices_of(layout.layers[layer])) {
      branches.push_back(regular_branch(layout, matrix, 5, branches.size()));
      trainer->matrix(matrix).set_branch(branches.back(), *team);
    }
  }
  double loss() { return trainer->loss(residual, wanted); }

  double loss_at(uint32_t index, bool is_b, const std::vector<float>& direction, double step) {
    BranchedMatrix& matrix = trainer->matrix(index);
    LeasedVector<float>& values = is_b ? matrix.factors().b : matrix.factors().a;
    const LeasedVector<float> before = values;
    for (size_t k = 0; k < values.size(); ++k) values[k] += static_cast<float>(step) * direction[k];
    matrix.repack(*team);
    const double moved = loss();
    values = before;
    matrix.repack(*team);
    return moved;
  }
};

void check_gradients(Block& block) {
  const double loss = block.trainer->loss_and_gradients(block.residual, block.wanted);
  CHECK(loss == block.loss());
  REQUIRE(loss > 0.01);
  for (const TrainedBranch& branch : block.branches) {
    CAPTURE(block.layout.shape.matrices[branch.matrix].name);
    for (const bool is_b : {false, true}) {
      const TrainedFactors& factors = block.trainer->matrix(branch.matrix).factors();
      const LeasedVector<float> gradient = is_b ? factors.b_gradient : factors.a_gradient;
      check_gradient(gradient, loss,
                     [&](const std::vector<float>& direction, double step) { return block.loss_at(branch.matrix, is_b, direction, step); });
    }
  }
}

TEST_CASE("BlockTrainer: gradients of every matrix are what differences of the layer's losses say, in files of the golden models") {
  for (const char* name : {"dense-f16", "llama3", "mistral", "odd-f32"}) {
    CAPTURE(name);
    const Model model = must(Model::open(tiny_model_path(name)));
    Block block(model, 1);
    check_gradients(block);
  }
}

TEST_CASE("BlockTrainer: gradients are right with biases and with norms of heads") {
  for (const DenseKind kind : {DenseKind::kQwen2, DenseKind::kQwen3}) {
    const ScratchFolder scratch;
    const Model model = write_and_open(scratch, random_dense(kind));
    Block block(model, 2);
    check_gradients(block);
  }
}

TEST_CASE("block_loss: each token counts by what it lacks of its own length, and the gradient is half as long with twice the tokens") {
  const auto team = must(ThreadTeam::create(2));
  const std::vector<float> wanted{3, 4, 300, 400}, got{3, 9, 300, 400};
  std::vector<float> gradient(4);
  CHECK(std::abs(block_loss(wanted, got, 2, gradient.data(), *team) - 0.5) < 1e-12);
  CHECK(std::abs(gradient[1] - 0.2f) < 1e-6f);
  CHECK((gradient[0] == 0 && gradient[2] == 0 && gradient[3] == 0));
  block_loss(std::span(wanted).first(2), std::span(got).first(2), 2, gradient.data(), *team);
  CHECK(std::abs(gradient[1] - 0.4f) < 1e-6f);
  // The same share of a token that is a hundred times as long.
  CHECK(std::abs(block_loss(wanted, std::vector<float>{3, 4, 300, 900}, 2, nullptr, *team) - 0.5) < 1e-12);
}

TEST_CASE("BlockTrainer: the model's own matrices give the model's own outputs, and the number of threads changes no bit") {
  const Model model = must(Model::open(tiny_model_path("dense-f16")));
  Block one(model, 0, 1), three(model, 0, 3);
  CHECK(one.wanted == three.wanted);
  CHECK(one.trainer->loss_and_gradients(one.residual, one.wanted) == three.trainer->loss_and_gradients(three.residual, three.wanted));
  for (const TrainedBranch& branch : one.branches) {
    CHECK(one.trainer->matrix(branch.matrix).factors().a_gradient == three.trainer->matrix(branch.matrix).factors().a_gradient);
    CHECK(one.trainer->matrix(branch.matrix).factors().b_gradient == three.trainer->matrix(branch.matrix).factors().b_gradient);
  }
  must(one.trainer->set_layer(0, own_matrices(*model.impl()), true));
  CHECK(one.loss() == 0);
}

}  // namespace
}  // namespace outrigger::testing
