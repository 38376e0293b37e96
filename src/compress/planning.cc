// Planning: the same for all, or as a survey says.
#include "src/compress/planning.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/compress/branch_choice.h"
#include "src/compress/hcinfer_allocation.h"
#include "src/compress/survey.h"

namespace outrigger {
namespace {

bool has_budget(const CompressOptions& options) { return options.branch_bytes > 0 || options.branch_read_bytes > 0; }

class Planning {
 public:
  Planning(const Model::Impl& model, std::span<const Token> tokens, const CompressOptions& options, SavedWork* saved)
      : model_(model), layout_(*model.layout), tokens_(tokens), options_(options), saved_(saved), plans_(layout_.weights.size()) {
    for (const uint32_t matrix : matrices_of_layers(layout_)) {
      plans_[matrix].bits = base_bits(options_);
      plans_[matrix].form = form_of(options_);
    }
  }

  CompressNeed need() const {
    if (!needs_survey(options_)) return {};
    return need_of_survey({layout_, options_, tokens_.size(), compressing_threads(options_)}, plans_, components(),
                          measures() && forms().residual);
  }

  Result<ModelPlan> run(const std::function<Status(double share)>& watch) {
    if (!needs_survey(options_)) {
      OTR_TRY(plan_alike());
      return ModelPlan{std::move(plans_), std::move(survey_)};
    }
    if (measures()) OTR_TRY(check_budget(forms()));
    const CompressNeed most = need();
    OTR_TRY(check_need(most, options_));
    OTR_ASSIGN(SurveyResult surveyed,
               survey_model(model_, tokens_, options_, components(), measures() && forms().residual, saved_, watch));
    survey_ = std::move(surveyed.measured);
    for (const MatrixLoss& loss : surveyed.losses) plans_[loss.matrix].kl = loss.kl;
    if (options_.mixed_bits > 0) allocate_bits(layout_, surveyed.losses, options_.mixed_bits - form_of(options_).scale_bits(), &plans_);
    if (measures() && options_.allocation == BranchAllocation::kHcinfer) {
      allocate_like_hcinfer(layout_, surveyed.losses, survey_.kl_by_layer, low_rank_bytes(), options_.factor_bits, &plans_);
    } else if (measures()) {
      survey_.curve = choose_branches(layout_, surveyed.losses, forms(), limits(), options_.factor_bits, &plans_);
    } else {
      OTR_TRY(plan_alike());
    }
    return ModelPlan{std::move(plans_), std::move(survey_), most.bytes};
  }

 private:
  bool measures() const { return has_budget(options_) && options_.allocation != BranchAllocation::kUniform; }
  BranchForms forms() const {
    const bool is_like_hcinfer = options_.method == BranchMethod::kHcinfer || options_.allocation == BranchAllocation::kHcinfer;
    return {options_.form != BranchForm::kSparse, options_.form != BranchForm::kLowRank && !is_like_hcinfer};
  }
  /// Of a matrix, that are looked at.
  uint32_t components() const { return measures() && forms().low_rank ? 3 * rank_for_all() + 32 : 0; }

  static uint64_t or_no_limit(uint64_t bytes) { return bytes > 0 ? bytes : UINT64_MAX; }
  /// For low-rank branches, which are read whole.
  uint64_t low_rank_bytes() const { return std::min(or_no_limit(options_.branch_bytes), or_no_limit(options_.branch_read_bytes)); }

  BranchLimits limits() const {
    BranchLimits limits;
    limits.scattered_cost = options_.scattered_read_cost;
    if (options_.branch_bytes > 0) limits.stored_bytes = static_cast<double>(options_.branch_bytes);
    if (options_.branch_read_bytes > 0) limits.read_bytes = static_cast<double>(options_.branch_read_bytes);
    return limits;
  }

  uint32_t rank_for_all() const {
    std::vector<MatrixPlan> plans(plans_);
    plan_uniform_ranks(layout_, low_rank_bytes(), options_.factor_bits, &plans);
    uint32_t most = 0;
    for (const MatrixPlan& plan : plans) most = std::max(most, plan.rank);
    return most;
  }

  /// The same for every matrix, or what HCInfer has for each kind.
  Status plan_alike() {
    if (!has_budget(options_)) {
      if (options_.method == BranchMethod::kHcinfer) plan_hcinfer_ranks(layout_, &plans_);
      return {};
    }
    uint64_t residuals = 0, reached = 0;
    for (const uint32_t matrix : matrices_of_layers(layout_)) {
      residuals += stored_residual_bytes(layout_, matrix), reached += reached_residual_bytes(layout_, matrix);
    }
    const bool hold = residuals <= or_no_limit(options_.branch_bytes), asked = options_.form == BranchForm::kSparse;
    if (asked && !hold) return too_little(residuals);
    if (asked ||
        (options_.form == BranchForm::kAuto && options_.method == BranchMethod::kWeighed && hold && options_.branch_read_bytes > 0)) {
      plan_uniform_shares(layout_,
                          static_cast<uint64_t>(static_cast<double>(std::min(or_no_limit(options_.branch_read_bytes), reached)) /
                                                options_.scattered_read_cost),
                          &plans_);
      return {};
    }
    plan_uniform_ranks(layout_, low_rank_bytes(), options_.factor_bits, &plans_);
    if (std::any_of(plans_.begin(), plans_.end(), [](const MatrixPlan& plan) { return plan.rank > 0; })) return {};
    uint64_t least = 0;
    for (const uint32_t matrix : matrices_of_layers(layout_)) least += is_stack(layout_, matrix) ? 0 : smallest_branch(matrix);
    return too_little(least);
  }

  uint64_t smallest_branch(uint32_t matrix) const {
    return branch_bytes(layout_.weights[matrix].rows, layout_.weights[matrix].columns, 32, options_.factor_bits);
  }

  /// A budget that buys nothing is told, with the least that does.
  Status check_budget(const BranchForms& forms) const {
    uint64_t least = UINT64_MAX, least_read = UINT64_MAX;
    for (const uint32_t matrix : matrices_of_layers(layout_)) {
      const bool has_branch = forms.low_rank && !is_stack(layout_, matrix);
      if (has_branch) least = std::min(least, smallest_branch(matrix)), least_read = std::min(least_read, smallest_branch(matrix));
      if (!forms.residual) continue;
      const auto reached = static_cast<double>(reached_residual_bytes(layout_, matrix));
      least = std::min(least, stored_residual_bytes(layout_, matrix));
      least_read = std::min(least_read, static_cast<uint64_t>(std::ceil(options_.scattered_read_cost * reached / ShareCurve::kSteps)));
    }
    if (or_no_limit(options_.branch_bytes) < least) return too_little(least);
    if (or_no_limit(options_.branch_read_bytes) >= least_read) return {};
    return Status(StatusCode::kInvalidArgument, formatted("branch_read_bytes is {}, which is too little for any branch, need at least {}",
                                                          options_.branch_read_bytes, least_read))
        .with_bytes(least_read, options_.branch_read_bytes);
  }

  Status too_little(uint64_t least) const {
    const uint64_t given = options_.branch_bytes > 0 ? options_.branch_bytes : options_.branch_read_bytes;
    const char* const name = options_.branch_bytes > 0 ? "branch_bytes" : "branch_read_bytes";
    return Status(StatusCode::kInvalidArgument,
                  formatted("{} is {}, which is too little for any branch, need at least {}", name, given, least))
        .with_bytes(least, given);
  }

  const Model::Impl& model_;
  const ModelLayout& layout_;
  const std::span<const Token> tokens_;
  const CompressOptions& options_;
  SavedWork* const saved_;
  std::vector<MatrixPlan> plans_;
  CompressSurvey survey_;
};

}  // namespace

int base_bits(const CompressOptions& options) {
  if (options.mixed_bits == 0) return options.bits;
  return options.mixed_bits - form_of(options).scale_bits() < 3 ? 2 : 3;
}

OwnForm form_of(const CompressOptions& options) { return {options.levels == WeightLevels::kCodebook, options.group_weights}; }

bool needs_survey(const CompressOptions& options) {
  return options.mixed_bits > 0 || (has_budget(options) && options.allocation != BranchAllocation::kUniform);
}

CompressNeed need_of_planning(const Model::Impl& model, std::span<const Token> tokens, const CompressOptions& options) {
  return Planning(model, tokens, options, nullptr).need();
}

Result<ModelPlan> plan_matrices(const Model::Impl& model, std::span<const Token> tokens, const CompressOptions& options, SavedWork* saved,
                                const std::function<Status(double share)>& watch) {
  if (!needs_survey(options) || saved == nullptr) return Planning(model, tokens, options, nullptr).run(watch);
  if (std::optional<ModelPlan> kept = saved->plan()) return std::move(*kept);
  OTR_ASSIGN(ModelPlan plan, Planning(model, tokens, options, saved).run(watch));
  saved->keep_plan(plan);
  return plan;
}

}  // namespace outrigger
