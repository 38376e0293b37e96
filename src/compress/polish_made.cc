// Polishing what was just compressed: factors as float32, and back as they are stored.
#include "src/compress/polish_made.h"

#include <algorithm>
#include <memory>
#include <tuple>

#include "src/base/macros.h"
#include "src/base/thread_team.h"
#include "src/tensor/dequantize.h"

namespace outrigger {

Status polish_made(const Model::Impl& model, std::span<const Token> tokens, const CompressOptions& options, std::span<const MatrixPlan> plans, const PolishWatch& watch,
                   std::vector<CompressedMatrix>* made, CompressReport* result) {
  const LeaseScope scope(MemoryUse::kTraining);
  const std::vector<WeightSource>& weights = model.layout->weights;
  const auto decode = [](DType type, const LeasedVector<std::byte>& bytes, uint64_t elements) -> Result<LeasedVector<float>> {
    LeasedVector<float> values(elements);
    OTR_TRY(dequantize(type, bytes.data(), values.data(), values.size()));
    return values;
  };
  std::vector<TrainedBranch> branches;
  for (uint32_t matrix = 0; matrix < made->size(); ++matrix) {
    const LowRankBranch& branch = (*made)[matrix].branch;
    if (branch.rank == 0) continue;
    TrainedBranch trained{matrix, branch.rank, {}, {}};
    OTR_ASSIGN(trained.a, decode(branch.type, branch.a, branch.rank * branch.columns));
    OTR_ASSIGN(trained.b, decode(branch.type, branch.b, branch.rows * branch.rank));
    branches.push_back(std::move(trained));
  }
  if (branches.empty()) return {};
  // Which columns of a residual a token reads has no gradient: on average it is as if all were, each by the part that reading restores.
  const MatrixReader student = [&](uint32_t matrix) -> Result<LeasedVector<float>> {
    const auto& [backbone, residual, restored] = std::tie((*made)[matrix].backbone, (*made)[matrix].residual, plans[matrix].restored);
    const uint64_t rows = weights[matrix].rows, columns = weights[matrix].columns;
    OTR_ASSIGN(LeasedVector<float> values, decode(backbone.type, backbone.bytes, rows * columns));
    if (residual.share == 0) return values;
    OTR_ASSIGN(const LeasedVector<float> lost, decode(residual.columns.type, residual.columns.bytes, rows * columns));
    const auto part = static_cast<float>(restored > 0 ? restored : residual.share);
    for (uint64_t c = 0; c < columns; ++c) {
      for (uint64_t r = 0; r < rows; ++r) values[r * columns + c] += part * lost[c * rows + r];
    }
    return values;
  };
  OTR_ASSIGN(const std::unique_ptr<ThreadTeam> team, ThreadTeam::create(options.threads > 0 ? options.threads : usable_cores()));
  PolishOptions polish_options;
  polish_options.steps = options.polish_steps;
  polish_options.round = [&](TrainedBranch* trained) -> Status {
    LowRankBranch& branch = (*made)[trained->matrix].branch;
    LowRankBranch rounded{branch.rows, branch.columns, branch.rank, branch.type, {}, {}, branch.importance, {}, 0, 0};
    OTR_TRY(set_factors(trained->a, trained->b, &rounded));
    OTR_TRY(dequantize(rounded.type, rounded.a.data(), trained->a.data(), trained->a.size()));
    return dequantize(rounded.type, rounded.b.data(), trained->b.data(), trained->b.size());
  };
  const size_t chunks = tokens.size() / options.chunk_tokens;
  polish_options.held_out_chunks = static_cast<uint32_t>(std::clamp<size_t>(chunks / 8, 1, polish_options.held_out_chunks));
  OTR_ASSIGN(const PolishReport report,
             polish_branches(model, student, tokens, options.chunk_tokens, polish_options, *team, watch, &branches));
  result->polish_kl_before = report.held_out_before;
  result->polish_kl_after = report.held_out_after;
  result->polish_losses = report.losses;
  result->is_polish_kept = report.is_kept;
  if (!report.is_kept) return {};
  for (const TrainedBranch& trained : branches) {
    OTR_TRY(set_factors(trained.a, trained.b, &(*made)[trained.matrix].branch));
  }
  return {};
}

}  // namespace outrigger
