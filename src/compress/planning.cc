// Planning: the same for all, or as a survey says.
#include "src/compress/planning.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "src/base/macros.h"
#include "src/compress/survey.h"

namespace outrigger {
namespace {

constexpr uint64_t kCurveBudgets = 4;  // so many of the budget are looked at, for what more would bring

class Planning {
 public:
  Planning(const Model::Impl& model, std::span<const Token> tokens, const CompressOptions& options, SavedWork* saved)
      : model_(model), layout_(*model.layout), tokens_(tokens), options_(options), saved_(saved), plans_(layout_.weights.size()) {}

  Result<ModelPlan> run(const std::function<Status(double share)>& watch) {
    for (const uint32_t matrix : matrices_of_layers(layout_)) plans_[matrix].bits = base_bits();
    plan_uniform_ranks(layout_, options_.branch_bytes, options_.factor_bits, &plans_);
    if (options_.method == BranchMethod::kHcinfer && options_.branch_bytes == 0) plan_hcinfer_ranks(layout_, &plans_);
    if (options_.residual_read_bytes > 0) plan_uniform_shares(layout_, options_.residual_read_bytes, &plans_);
    if (!needs_survey(options_)) return checked();
    uint32_t most = 0;
    for (const MatrixPlan& plan : plans_) most = std::max(most, plan.rank);
    OTR_ASSIGN(SurveyResult surveyed, survey_model(model_, tokens_, options_, base_bits(), options_.branch_bytes > 0 ? 3 * most + 32 : 0, options_.residual_read_bytes > 0, saved_, watch));
    const std::vector<MatrixLoss>& losses = surveyed.losses;
    survey_ = std::move(surveyed.measured);
    for (const MatrixLoss& loss : losses) plans_[loss.matrix].kl = loss.kl;
    if (options_.mixed_bits > 0) allocate_bits(layout_, losses, options_.mixed_bits - 0.5, &plans_);
    if (options_.allocation != BranchAllocation::kMeasured) return checked();
    std::vector<MatrixPlan> further = plans_;  // what more would buy
    if (options_.branch_bytes > 0) {
      allocate_ranks(layout_, losses, options_.branch_bytes, options_.factor_bits, &plans_);
      survey_.curve = thinned(allocate_ranks(layout_, losses, kCurveBudgets * options_.branch_bytes, options_.factor_bits, &further));
    }
    if (options_.residual_read_bytes > 0) {
      allocate_shares(layout_, losses, options_.residual_read_bytes, &plans_);
      survey_.curve = thinned(allocate_shares(layout_, losses, kCurveBudgets * options_.residual_read_bytes, &further));
    }
    return checked();
  }

 private:
  static std::vector<CompressSurvey::Point> thinned(const std::vector<CompressSurvey::Point>& points) {
    if (points.size() <= kCurvePoints) return points;
    std::vector<CompressSurvey::Point> kept;
    for (size_t i = 0; i < kCurvePoints; ++i) kept.push_back(points[i * (points.size() - 1) / (kCurvePoints - 1)]);
    return kept;
  }

  // A budget that buys nothing is told, with the least that does.
  Result<ModelPlan> checked() {
    if (options_.branch_bytes == 0 || std::any_of(plans_.begin(), plans_.end(), [](const MatrixPlan& plan) { return plan.rank > 0; })) return ModelPlan{std::move(plans_), std::move(survey_)};
    uint64_t least = options_.allocation == BranchAllocation::kUniform ? 0 : UINT64_MAX;
    for (const uint32_t matrix : matrices_of_layers(layout_)) {
      if (is_stack(layout_, matrix)) continue;
      const uint64_t bytes = outrigger::branch_bytes(layout_.weights[matrix].rows, layout_.weights[matrix].columns, 32, options_.factor_bits);
      least = options_.allocation == BranchAllocation::kUniform ? least + bytes : std::min(least, bytes);
    }
    return Status(StatusCode::kInvalidArgument, fmt::format("branch_bytes is {}, which is too little for any branch, need at least {}", options_.branch_bytes, least))
        .with_bytes(least, options_.branch_bytes);
  }

  int base_bits() const { return options_.mixed_bits == 0 ? options_.bits : options_.mixed_bits < 3.5 ? 2 : 3; }

  const Model::Impl& model_;
  const ModelLayout& layout_;
  const std::span<const Token> tokens_;
  const CompressOptions& options_;
  SavedWork* const saved_;
  std::vector<MatrixPlan> plans_;
  CompressSurvey survey_;
};

}  // namespace

bool needs_survey(const CompressOptions& options) {
  return options.mixed_bits > 0 || (options.branch_bytes + options.residual_read_bytes > 0 && options.allocation == BranchAllocation::kMeasured);
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
