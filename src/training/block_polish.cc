// polish_blocks: two streams through the layers, the model's own and that of what became of it.
#include "src/training/block_polish.h"

#include <cmath>
#include <new>
#include <optional>
#include <utility>

#include "src/base/macros.h"
#include "src/forward/head_divergence.h"
#include "src/model/fixed_tensors.h"
#include "src/training/block_trainer.h"
#include "src/training/layer_reading.h"
#include "src/training/polish_task.h"
#include "src/training/pupils.h"

namespace outrigger {
namespace {

/// Of each piece [tokens, width], before or after some layer.
using Stream = std::vector<LeasedVector<float>>;

class BlockPolisher {
 public:
  BlockPolisher(const Model::Impl& model, const MatrixReader& student, PolishTask task, const PolishOptions& options, ThreadTeam& team,
                const BlockParts& parts)
      : model_(model), student_(student), task_(std::move(task)), options_(options), team_(team), parts_(parts) {}

  Result<PolishReport> run(const PolishWatch& watch) {
    const ModelLayout& layout = *model_.layout;
    const uint32_t all = layout.config.layers * (options_.steps + 1);
    uint32_t done = 0;
    OTR_TRY(watch(done, all));
    fixed_.resize(layout.shape.fixed_bytes / sizeof(float));
    if (parts_.read_codes) norm_gradients_.resize(fixed_.size());
    OTR_TRY(load_fixed_tensors(model_.file, layout, fixed_.data()));
    for (const Piece& piece : task_.pieces) {
      OTR_ASSIGN(wanted_.emplace_back(), embed_tokens(model_, piece));
    }
    got_ = wanted_;
    untrained_.assign(wanted_.begin(), wanted_.begin() + static_cast<ptrdiff_t>(task_.held_out));
    trainer_.emplace(model_, fixed_.data(), task_.piece_tokens, team_);
    for (uint32_t layer = 0; layer < layout.config.layers; ++layer) {
      OTR_TRY(run_layer(layer, [&](uint32_t parts) { return watch(done += parts, all); }));
    }
    trainer_.reset();
    OTR_ASSIGN(report_.held_out_before, divergence(untrained_));
    OTR_ASSIGN(report_.held_out_after, divergence(got_));
    if (!std::isfinite(report_.held_out_before)) return not_finite();
    report_.is_kept = report_.held_out_after < report_.held_out_before;
    return std::move(report_);
  }

 private:
  using LayerWatch = std::function<Status(uint32_t parts)>;

  Status not_finite() const {
    return Status(StatusCode::kInvalidArgument, "the model's outputs are not all finite").in_file(model_.info.file);
  }

  Status run_layer(uint32_t layer, const LayerWatch& watch) {
    OTR_ASSIGN(const std::vector<TrainedBranch> given, parts_.read(layer));
    OTR_TRY(check_branches(*model_.layout, given));
    OTR_TRY(trainer_->set_layer(layer, own_matrices(model_), false));
    for (LeasedVector<float>& piece : wanted_) trainer_->forward(piece, piece);
    OTR_TRY(trainer_->set_layer(layer, student_, true));
    for (const TrainedBranch& branch : given) trainer_->matrix(branch.matrix).set_branch(branch, team_);
    for (LeasedVector<float>& piece : untrained_) trainer_->forward(piece, piece);
    OTR_TRY(watch(1));
    if ((given.empty() || !options_.moves_branches) && !parts_.read_codes) {
      OTR_TRY(watch(options_.steps));
    } else {
      OTR_TRY(train(layer, given, watch));
    }
    for (LeasedVector<float>& piece : got_) trainer_->forward(piece, piece);
    return {};
  }

  double held_out_error() {
    double sum = 0;
    for (size_t i = 0; i < task_.held_out; ++i) sum += trainer_->loss(got_[i], wanted_[i]);
    return sum / static_cast<double>(task_.held_out);
  }

  Status train(uint32_t layer, const std::vector<TrainedBranch>& given, const LayerWatch& watch) {
    PolishedLayer block;
    block.layer = layer;
    block.error_before = held_out_error();
    if (!std::isfinite(block.error_before)) return not_finite();
    Pupils pupils(options_.round, team_);
    for (const TrainedBranch& branch : given) pupils.add(branch, &trainer_->matrix(branch.matrix));
    std::optional<BackbonePupils> backbone;
    if (parts_.read_codes) {
      OTR_ASSIGN(std::vector<MatrixCodes> codes, parts_.read_codes(layer));
      backbone.emplace(
          *model_.layout, layer, std::move(codes), [this](uint32_t matrix) -> BranchedMatrix& { return trainer_->matrix(matrix); }, fixed_,
          norm_gradients_, team_);
    }
    for (uint32_t step = 0; step < options_.steps; ++step) {
      const size_t piece = task_.steps[step];
      const double loss = trainer_->loss_and_gradients(got_[piece], wanted_[piece], backbone ? norm_gradients_.data() : nullptr);
      if (!std::isfinite(loss)) {
        OTR_TRY(watch(options_.steps - step));
        break;  // it would spoil all factors
      }
      if (options_.moves_branches) OTR_TRY(pupils.step(options_.rate_of(step, options_.learning_rate)));
      if (backbone) OTR_TRY(backbone->step(options_, step));
      OTR_TRY(watch(1));
    }
    block.error_after = held_out_error();
    block.is_kept = block.error_after < block.error_before;
    report_.layers.push_back(block);
    if (!block.is_kept) {
      for (const TrainedBranch& branch : given) trainer_->matrix(branch.matrix).set_branch(branch, team_);
      return backbone ? backbone->reset() : Status();
    }
    if (backbone) OTR_TRY(parts_.keep_backbone(backbone->give_back()));
    if (!options_.moves_branches) return {};
    std::vector<TrainedBranch> trained = given;
    for (size_t i = 0; i < trained.size(); ++i) pupils.give_back(i, &trained[i]);
    return parts_.keep(std::move(trained));
  }

  // Of the held-out pieces behind the last layer.
  Result<double> divergence(const Stream& stream) {
    double sum = 0;
    LeasedVector<float> p(wanted_.front().size()), q(p.size());
    for (size_t i = 0; i < task_.held_out; ++i) {
      norm_output(*model_.layout, fixed_.data(), wanted_[i], p, team_);
      norm_output(*model_.layout, fixed_.data(), stream[i], q, team_);
      OTR_ASSIGN(const double one, head_divergence(model_, p, q, team_));
      sum += one;
    }
    return sum / static_cast<double>(task_.held_out);
  }

  const Model::Impl& model_;
  const MatrixReader& student_;
  const PolishTask task_;
  const PolishOptions& options_;
  ThreadTeam& team_;
  const BlockParts& parts_;
  LeasedVector<float> fixed_, norm_gradients_;  ///< the latter empty where norms are frozen
  std::optional<BlockTrainer> trainer_;
  Stream wanted_;     ///< with the model's own layers
  Stream got_;        ///< with what became of them
  Stream untrained_;  ///< the held-out pieces, with the branches as they were given
  PolishReport report_;
};

}  // namespace

Result<PolishReport> polish_blocks(const Model::Impl& model, const MatrixReader& student, std::span<const Token> tokens,
                                   uint32_t chunk_tokens, const PolishOptions& options, ThreadTeam& team, const PolishWatch& watch,
                                   const BlockParts& parts) try {
  OTR_ASSIGN(PolishTask task, make_polish_task(*model.layout, tokens, chunk_tokens, options));
  return BlockPolisher(model, student, std::move(task), options, team, parts).run(watch);
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

}  // namespace outrigger
