// polish_branches: steps, then the question whether they were of use.
#include "src/training/polish.h"

#include <cmath>
#include <new>
#include <optional>

#include "src/base/macros.h"
#include "src/training/branch_trainer.h"
#include "src/training/polish_task.h"
#include "src/training/pupils.h"

namespace outrigger {
namespace {

Result<double> mean_loss(BranchTrainer& trainer, size_t pieces) {
  double sum = 0;
  for (size_t i = 0; i < pieces; ++i) {
    OTR_ASSIGN(const double loss, trainer.loss(i));
    sum += loss;
  }
  return sum / static_cast<double>(pieces);
}

class BackbonePupils {
 public:
  BackbonePupils(const ModelLayout& layout, TrainedBackbone& backbone, BranchTrainer& trainer, ThreadTeam& team)
      : scales_(team), norms_(layout, trainer.fixed(), team), norm_gradients_(trainer.norm_gradients()) {
    for (MatrixCodes& codes : backbone.codes) scales_.add(std::move(codes), &trainer.matrix(codes.matrix));
  }

  Status step(const PolishOptions& options, uint32_t step) {
    norms_.step(norm_gradients_, options.rate_of(step, options.norm_rate));
    return scales_.step(options.rate_of(step, options.scale_rate));
  }

  void give_back(TrainedBackbone* backbone) {
    for (size_t i = 0; i < scales_.count(); ++i) backbone->codes[i] = std::move(scales_.codes(i));
    backbone->norms = norms_.norms();
  }

 private:
  ScalePupils scales_;
  NormPupils norms_;
  const std::span<const float> norm_gradients_;
};

}  // namespace

Result<PolishReport> polish_branches(const Model::Impl& model, const MatrixReader& student, std::span<const Token> tokens,
                                     uint32_t chunk_tokens, const PolishOptions& options, ThreadTeam& team, const PolishWatch& watch,
                                     std::vector<TrainedBranch>* branches, TrainedBackbone* backbone) try {
  OTR_ASSIGN(PolishTask task, make_polish_task(*model.layout, tokens, chunk_tokens, options));
  OTR_TRY(check_branches(*model.layout, *branches));
  uint32_t done = 0;
  const uint32_t all = model.layout->config.layers + options.steps;
  OTR_TRY(watch(done, all));
  OTR_ASSIGN(const std::unique_ptr<BranchTrainer> trainer,
             BranchTrainer::create(model, student, std::move(task.pieces), task.piece_tokens, team, [&] { return watch(++done, all); }));
  Pupils pupils(options.round, team);
  for (const TrainedBranch& branch : *branches) pupils.add(branch, &trainer->matrix(branch.matrix));
  std::optional<BackbonePupils> backbone_pupils;
  if (backbone != nullptr) backbone_pupils.emplace(*model.layout, *backbone, *trainer, team);
  PolishReport report;
  OTR_ASSIGN(report.held_out_before, mean_loss(*trainer, task.held_out));
  if (!std::isfinite(report.held_out_before))
    return Status(StatusCode::kInvalidArgument, "the model's outputs are not all finite").in_file(model.info.file);
  for (uint32_t step = 0; step < options.steps; ++step) {
    OTR_ASSIGN(const double loss, trainer->loss_and_gradients(task.steps[step]));
    report.losses.push_back(loss);
    // What is no number would spoil all factors.
    if (std::isfinite(loss)) {
      if (options.moves_branches) OTR_TRY(pupils.step(options.rate_of(step, options.learning_rate)));
      if (backbone_pupils) OTR_TRY(backbone_pupils->step(options, step));
    }
    OTR_TRY(watch(++done, all));
    if (!std::isfinite(loss)) break;
  }
  OTR_ASSIGN(report.held_out_after, mean_loss(*trainer, task.held_out));
  report.is_kept = report.held_out_after < report.held_out_before;
  for (size_t i = 0; report.is_kept && i < branches->size(); ++i) pupils.give_back(i, &(*branches)[i]);
  if (report.is_kept && backbone_pupils) backbone_pupils->give_back(backbone);
  return report;
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

}  // namespace outrigger
