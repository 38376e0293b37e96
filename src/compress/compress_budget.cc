// What a budget of memory makes of the options, and what was held in the end.
#include "src/compress/compress_budget.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "src/base/macros.h"
#include "src/compress/planning.h"
#include "src/compress/polish_made.h"

namespace outrigger {
namespace {

// Before there is a plan: what is needed whatever it will be.
Status check_least_memory(const Model::Impl& model, std::span<const Token> tokens, const CompressOptions& options) {
  std::vector<MatrixPlan> plans(model.layout->weights.size());
  for (const uint32_t matrix : matrices_of_layers(*model.layout)) {
    plans[matrix].bits = options.mixed_bits > 0 ? 2 : options.bits;
    plans[matrix].form = form_of(options);
  }
  PolishPlan polish;
  if (trains_backbone(options) || (trains_branches(options) && options.branch_bytes + options.branch_read_bytes > 0)) {
    OTR_ASSIGN(polish, plan_polish(model, tokens, options, plans));
  }
  return check_need(
      CompressNeed::larger(need_of_planning(model, tokens, options), need_of_making(model, tokens, options, plans, polish.bytes)), options);
}

}  // namespace

bool trains_branches(const CompressOptions& options) {
  return options.polish_steps > 0 && options.method == BranchMethod::kWeighed && options.form != BranchForm::kSparse &&
         options.polish_target != PolishTarget::kBackbone;
}

bool trains_backbone(const CompressOptions& options) {
  return options.polish_steps > 0 && options.method == BranchMethod::kWeighed && options.polish_target != PolishTarget::kBranches;
}

CompressNeed need_of_making(const Model::Impl& model, std::span<const Token> tokens, const CompressOptions& options,
                            std::span<const MatrixPlan> plans, uint64_t training_bytes) {
  CompressNeed training{training_bytes, {}};
  training.of_use[static_cast<size_t>(MemoryUse::kTraining)] = training_bytes;
  return CompressNeed::larger(need_of_pass({*model.layout, options, tokens.size(), compressing_threads(options)}, plans), training);
}

Result<CompressOptions> with_room_for_feedback(const Model::Impl& model, std::span<const Token> tokens, CompressOptions options) {
  constexpr uint64_t kFewest = 512;  // less would be saved below that than a matrix as floats takes
  uint64_t widest = 0;
  for (const uint32_t matrix : matrices_of_layers(*model.layout)) widest = std::max(widest, model.layout->weights[matrix].columns);
  Status refused = check_least_memory(model, tokens, options);
  for (uint64_t groups = 2; !refused.is_ok() && options.feedback_columns == 0; ++groups) {
    const uint64_t columns = (widest / groups + options.group_weights - 1) / options.group_weights * options.group_weights;
    if (columns < kFewest) break;
    CompressOptions fewer = options;
    fewer.feedback_columns = static_cast<uint32_t>(columns);
    Status status = check_least_memory(model, tokens, fewer);
    if (status.is_ok()) return fewer;
    refused = std::move(status);
  }
  if (!refused.is_ok()) return refused;
  return options;
}

CompressMemory memory_of(const MemoryLedger& ledger, uint64_t planned_bytes, const CompressOptions& options) {
  const TierUse use = ledger.report();
  return {use.budget_bytes,
          planned_bytes,
          use.peak_bytes,
          options.feedback_columns,
          ledger.peak_bytes(MemoryUse::kCalibration),
          ledger.peak_bytes(MemoryUse::kGrams),
          ledger.peak_bytes(MemoryUse::kMatrices),
          ledger.peak_bytes(MemoryUse::kBackbone),
          ledger.peak_bytes(MemoryUse::kBranches),
          ledger.peak_bytes(MemoryUse::kTraining)};
}

}  // namespace outrigger
