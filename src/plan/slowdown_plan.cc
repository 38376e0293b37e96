// Slowdown plan: shares of all windows, then windows in the order of what they cost.
#include "src/plan/slowdown_plan.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "src/base/macros.h"
#include "src/plan/branch_share.h"

namespace outrigger {
namespace {

constexpr int kSteps = 32;
constexpr size_t kKinds = static_cast<size_t>(LayerWindow::kNone);

/// By LayerWindow: which of them are corrected.
using Kinds = std::array<bool, kKinds>;
constexpr Kinds kAll = {true, true, true, true};

class SlowdownSearch {
 public:
  SlowdownSearch(const StepShape& shape, const PlanOfShape& plan_of) : shape_(shape), plan_of_(plan_of), windows_(layer_windows(shape)) {
    for (size_t i = 0; i < windows_.size(); ++i) {
      const MatrixShape& matrix = shape.matrices[i];
      const double bytes = static_cast<double>(matrix.is_branch ? matrix.packed_bytes : matrix.residual_read_bytes);
      (windows_[i] == LayerWindow::kNone ? other_bytes_ : bytes_[static_cast<size_t>(windows_[i])]) += bytes;
    }
  }

  Result<Plan> within(double max_slowdown) {
    OTR_ASSIGN(best_, plan_at(kAll, 0));
    bare_s_ = 1 / best_.predicted_decode_tokens_per_s;
    most_s_ = bare_s_ * (1 + max_slowdown);
    const bool has_device = best_.device.planned_bytes > 0;
    OTR_ASSIGN(const bool all_fit, take_whole(kAll));
    if (!all_fit) OTR_TRY(take_largest_share(kAll));
    if (!all_fit && has_device) OTR_TRY(take_windows());
    return std::move(best_);
  }

 private:
  Result<Plan> plan_at(const Kinds& kinds, int step) const {
    std::vector<bool> is_corrected;
    is_corrected.reserve(windows_.size());
    for (const LayerWindow window : windows_) is_corrected.push_back(window == LayerWindow::kNone || kinds[static_cast<size_t>(window)]);
    const double share = static_cast<double>(step) / kSteps;
    OTR_ASSIGN(Plan plan, plan_of_(with_branch_share(shape_, share, is_corrected)));
    plan.branch_share = static_cast<float>(share);
    for (size_t i = 0; i < is_corrected.size(); ++i) plan.tensors[i].is_corrected = is_corrected[i];
    return plan;
  }

  double bytes_of(const Kinds& kinds, int step) const {
    double bytes = other_bytes_;
    for (size_t i = 0; i < kKinds; ++i) bytes += kinds[i] ? bytes_[i] : 0;
    return bytes * step / kSteps;
  }

  bool is_within(const Plan& plan) const { return 1 / plan.predicted_decode_tokens_per_s <= most_s_; }

  void take_if_more(const Kinds& kinds, int step, Plan plan) {
    if (bytes_of(kinds, step) <= best_bytes_) return;
    best_bytes_ = bytes_of(kinds, step);
    best_ = std::move(plan);
  }

  // Whether all of these windows' corrections keep to it.
  Result<bool> take_whole(const Kinds& kinds) {
    OTR_ASSIGN(Plan plan, plan_at(kinds, kSteps));
    if (!is_within(plan)) return false;
    take_if_more(kinds, kSteps, std::move(plan));
    return true;
  }

  // Of windows of which all is too much.
  Status take_largest_share(const Kinds& kinds) {
    int within = 0;
    for (int beyond = kSteps; beyond - within > 1;) {
      const int step = (within + beyond) / 2;
      OTR_ASSIGN(Plan plan, plan_at(kinds, step));
      if (!is_within(plan)) {
        beyond = step;
        continue;
      }
      within = step;
      take_if_more(kinds, step, std::move(plan));
    }
    return {};
  }

  // More and more kinds of windows, as far as they keep to it; of the first set that does not, a share.
  Status take_windows() {
    OTR_ASSIGN(const std::vector<size_t> order, kinds_by_cost());
    Kinds kinds{};
    std::optional<Kinds> too_many;
    for (const size_t kind : order) {
      Kinds more = kinds;
      more[kind] = true;
      OTR_ASSIGN(const bool fits, take_whole(more));
      if (fits) {
        kinds = more;
      } else if (!too_many) {
        too_many = more;
      }
    }
    return too_many && *too_many != kAll ? take_largest_share(*too_many) : Status();
  }

  // Each alone, which may be the best there is.
  Result<std::vector<size_t>> kinds_by_cost() {
    std::array<double, kKinds> cost{};
    std::vector<size_t> order;
    for (size_t i = 0; i < kKinds; ++i) {
      if (bytes_[i] == 0) continue;
      Kinds alone{};
      alone[i] = true;
      OTR_ASSIGN(Plan plan, plan_at(alone, kSteps));
      cost[i] = (1 / plan.predicted_decode_tokens_per_s - bare_s_) / bytes_[i];
      order.push_back(i);
      if (is_within(plan)) take_if_more(alone, kSteps, std::move(plan));
    }
    std::stable_sort(order.begin(), order.end(), [&cost](size_t a, size_t b) { return cost[a] < cost[b]; });
    return order;
  }

  const StepShape& shape_;
  const PlanOfShape& plan_of_;
  const std::vector<LayerWindow> windows_;
  std::array<double, kKinds> bytes_{};  ///< of corrections: stored of branches, read of residuals
  double other_bytes_ = 0;
  Plan best_;
  double best_bytes_ = 0, bare_s_ = 0, most_s_ = 0;
};

}  // namespace

Result<Plan> plan_within_slowdown(const StepShape& shape, double max_slowdown, const PlanOfShape& plan_of) {
  return SlowdownSearch(shape, plan_of).within(max_slowdown);
}

}  // namespace outrigger
