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

// What went too far is taken back by half, so often at most.
constexpr int kMostRetreats = 2;

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
  if (backbone != nullptr) {
    backbone_pupils.emplace(
        *model.layout, std::nullopt, std::move(backbone->codes),
        [&trainer](uint32_t matrix) -> BranchedMatrix& { return trainer->matrix(matrix); }, trainer->fixed(), trainer->norm_gradients(),
        team);
  }
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
  for (int retreats = 0; retreats < kMostRetreats && !report.is_kept && std::isfinite(report.held_out_after); ++retreats) {
    if (options.moves_branches) OTR_TRY(pupils.retreat(*branches, 0.5f));
    if (backbone_pupils) OTR_TRY(backbone_pupils->retreat(0.5f));
    report.part /= 2;
    OTR_ASSIGN(report.held_out_after, mean_loss(*trainer, task.held_out));
    report.is_kept = report.held_out_after < report.held_out_before;
  }
  for (size_t i = 0; report.is_kept && options.moves_branches && i < branches->size(); ++i) pupils.give_back(i, &(*branches)[i]);
  if (report.is_kept && backbone_pupils) *backbone = backbone_pupils->give_back();
  return report;
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

}  // namespace outrigger
