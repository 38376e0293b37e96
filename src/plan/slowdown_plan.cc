// Slowdown plan: shares of all windows, then windows in the order of what they cost, in all layers or in some.
#include "src/plan/slowdown_plan.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "src/base/macros.h"
#include "src/plan/branch_share.h"

namespace outrigger {
namespace {

constexpr int kSteps = 32;
constexpr size_t kKinds = static_cast<size_t>(LayerWindow::kNone);

/// By LayerWindow: in how many layers it is corrected, which are spread evenly.
using Windows = std::array<uint64_t, kKinds>;

// Of `all` layers `some`: whether this one is among them.
bool is_among(uint64_t layer, uint64_t some, uint64_t all) { return some == all || (layer + 1) * some / all > layer * some / all; }

class SlowdownSearch {
 public:
  SlowdownSearch(const StepShape& shape, const PlanOfShape& plan_of) : shape_(shape), plan_of_(plan_of), windows_(layer_windows(shape)) {
    for (size_t i = 0; i < windows_.size(); ++i) {
      if (windows_[i] == LayerWindow::kNone) continue;
      bytes_[static_cast<size_t>(windows_[i])] += corrected_bytes(i);
      layers_ = std::max(layers_, uint64_t{shape.matrices[i].layer} + 1);
    }
    all_.fill(layers_);
  }

  Result<Plan> within(double max_slowdown) {
    OTR_ASSIGN(best_, plan_at(all_, 0));
    bare_s_ = 1 / best_.predicted_decode_tokens_per_s;
    most_s_ = bare_s_ * (1 + max_slowdown);
    const bool has_device = best_.device.own_bytes() > 0;
    OTR_ASSIGN(const bool all_fit, fits(all_, kSteps));
    if (!all_fit) OTR_TRY(take_largest_share());
    if (!all_fit && has_device) OTR_TRY(take_windows());
    return std::move(best_);
  }

 private:
  // Stored of branches, read of residuals.
  double corrected_bytes(size_t matrix) const {
    const MatrixShape& of = shape_.matrices[matrix];
    return static_cast<double>(of.is_branch ? of.packed_bytes : of.residual_read_bytes);
  }

  bool is_corrected_by(const Windows& some, size_t matrix) const {
    return windows_[matrix] == LayerWindow::kNone ||
           is_among(shape_.matrices[matrix].layer, some[static_cast<size_t>(windows_[matrix])], layers_);
  }

  Result<Plan> plan_at(const Windows& some, int step) const {
    std::vector<bool> is_corrected;
    is_corrected.reserve(windows_.size());
    for (size_t i = 0; i < windows_.size(); ++i) is_corrected.push_back(is_corrected_by(some, i));
    const double share = static_cast<double>(step) / kSteps;
    OTR_ASSIGN(Plan plan, plan_of_(with_branch_share(shape_, share, is_corrected)));
    plan.branch_share = static_cast<float>(share);
    for (size_t i = 0; i < is_corrected.size(); ++i) plan.tensors[i].is_corrected = is_corrected[i];
    return plan;
  }

  double bytes_of(const Windows& some, int step) const {
    double bytes = 0;
    for (size_t i = 0; i < windows_.size(); ++i) bytes += is_corrected_by(some, i) ? corrected_bytes(i) : 0;
    return bytes * step / kSteps;
  }

  // Whether so much keeps to the slowdown; the best so far is remembered.
  Result<bool> fits(const Windows& some, int step) {
    OTR_ASSIGN(Plan plan, plan_at(some, step));
    return take(some, step, std::move(plan));
  }
  bool take(const Windows& some, int step, Plan plan) {
    if (1 / plan.predicted_decode_tokens_per_s > most_s_) return false;
    if (const double bytes = bytes_of(some, step); bytes > best_bytes_) {
      best_bytes_ = bytes;
      best_ = std::move(plan);
    }
    return true;
  }

  // Of all windows, of which all is too much.
  Status take_largest_share() {
    int within = 0;
    for (int beyond = kSteps; beyond - within > 1;) {
      const int step = (within + beyond) / 2;
      OTR_ASSIGN(const bool is_within, fits(all_, step));
      (is_within ? within : beyond) = step;
    }
    return {};
  }

  // One kind of windows after the other, in all layers or in as many as keep to it.
  Status take_windows() {
    OTR_ASSIGN(const std::vector<size_t> order, kinds_by_cost());
    Windows some{};
    for (const size_t kind : order) {
      uint64_t within = 0;
      for (uint64_t beyond = layers_ + 1; beyond - within > 1;) {
        some[kind] = within == 0 && beyond == layers_ + 1 ? layers_ : (within + beyond) / 2;
        OTR_ASSIGN(const bool is_within, fits(some, kSteps));
        (is_within ? within : beyond) = some[kind];
      }
      some[kind] = within;
    }
    return {};
  }

  // Each alone, which may be the best there is.
  Result<std::vector<size_t>> kinds_by_cost() {
    std::array<double, kKinds> cost{};
    std::vector<size_t> order;
    for (size_t i = 0; i < kKinds; ++i) {
      if (bytes_[i] == 0) continue;
      Windows alone{};
      alone[i] = layers_;
      OTR_ASSIGN(Plan plan, plan_at(alone, kSteps));
      cost[i] = (1 / plan.predicted_decode_tokens_per_s - bare_s_) / bytes_[i];
      order.push_back(i);
      take(alone, kSteps, std::move(plan));
    }
    std::stable_sort(order.begin(), order.end(), [&cost](size_t a, size_t b) { return cost[a] < cost[b]; });
    return order;
  }

  const StepShape& shape_;
  const PlanOfShape& plan_of_;
  const std::vector<LayerWindow> windows_;
  std::array<double, kKinds> bytes_{};
  uint64_t layers_ = 0;  ///< numbers of layers that there may be, from 0
  Windows all_{};
  Plan best_;
  double best_bytes_ = 0, bare_s_ = 0, most_s_ = 0;
};

}  // namespace

Result<Plan> plan_within_slowdown(const StepShape& shape, double max_slowdown, const PlanOfShape& plan_of) {
  return SlowdownSearch(shape, plan_of).within(max_slowdown);
}

}  // namespace outrigger
