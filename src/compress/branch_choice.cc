// Branch choice: a price for bytes that are stored and one for bytes that are read.
#include "src/compress/branch_choice.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace outrigger {
namespace {

constexpr uint32_t kChunk = 32;  // components: a factor's group
constexpr int kPriceSteps = 32;  // of a search between a price at which nothing is bought and one a billionth of it
constexpr double kPriceRange = 1e9;
// Of the mean loss, taken for a matrix that seemed to lose less: two pieces of text cannot tell so little from nothing, and what no other
// can use may as well go there.
constexpr double kLeastShare = 1e-3;
// Of the limits, for the curve.
constexpr double kCurveShares[] = {1 / 32.0, 1 / 16.0, 1 / 8.0, 1 / 4.0, 3 / 8.0, 1 / 2.0, 3 / 4.0, 1, 1.5, 2, 3, 4};

/// What a matrix can be given.
struct Choice {
  uint32_t rank = 0;
  double share = 0;
  double stored = 0, read = 0;
  double kl = 0, part = 0;  ///< restored: of the model's, and of the matrix' own
};

struct Prices {
  double stored = 0, read = 0;
  double of(const Choice& choice) const { return stored * choice.stored + read * choice.read; }
};

struct Selection {
  std::vector<const Choice*> choices;  ///< by loss
  double stored = 0, read = 0, kl = 0;
};

/// First none, then ranks from the smallest on, then shares.
std::vector<Choice> choices_of(const ModelLayout& layout, const MatrixLoss& loss, double kl, const BranchForms& forms,
                               double scattered_cost, int factor_bits) {
  const WeightSource& weight = layout.weights[loss.matrix];
  std::vector<Choice> choices(1);
  double part = 0;
  for (uint32_t rank = kChunk; forms.low_rank && !is_stack(layout, loss.matrix) && loss.all > 0 && rank <= loss.spectrum.size();
       rank += kChunk) {
    for (uint32_t j = rank - kChunk; j < rank; ++j) part += loss.spectrum[j] / loss.all;
    const auto bytes = static_cast<double>(branch_bytes(weight.rows, weight.columns, rank, factor_bits));
    choices.push_back({rank, 0, bytes, bytes, kl * part, part});
  }
  const auto stored = static_cast<double>(stored_residual_bytes(layout, loss.matrix)),
             reached = static_cast<double>(reached_residual_bytes(layout, loss.matrix));
  for (size_t k = 1; forms.residual && k <= ShareCurve::kSteps; ++k) {
    const double share = static_cast<double>(k) / ShareCurve::kSteps, restored = loss.curve.restored[k];
    choices.push_back({0, share, stored, share * reached * scattered_cost, kl * restored, restored});
  }
  return choices;
}

class Choosing {
 public:
  Choosing(const std::vector<std::vector<Choice>>& offers, double stored_limit, double read_limit)
      : offers_(offers), stored_limit_(stored_limit), read_limit_(read_limit) {
    for (const std::vector<Choice>& offer : offers) {
      for (const Choice& choice : offer) {
        if (choice.stored > 0) highest_.stored = std::max(highest_.stored, choice.kl / choice.stored);
        if (choice.read > 0) highest_.read = std::max(highest_.read, choice.kl / choice.read);
      }
    }
    best_ = at({2 * highest_.stored, 2 * highest_.read});
  }

  /// The dearer a byte is, the less is bought: for each price of storing the lowest one of reading at which all fits.
  Selection run() {
    search(highest_.stored, [this](double stored) {
      search(highest_.read, [&](double read) {
        const Selection selection = at({stored, read});
        keep(selection);
        return selection.read <= read_limit_;
      });
      return last_.stored <= stored_limit_;
    });
    fill();
    return std::move(best_);
  }

 private:
  /// Calls `fits` with prices from nothing up, until it is known to within a step where it begins to hold; ends with one at which it does.
  template <typename Fits>
  void search(double highest, const Fits& fits) {
    if (highest == 0 || fits(0)) return;
    double low = std::log(highest / kPriceRange), high = std::log(2 * highest);
    for (int step = 0; step < kPriceSteps; ++step) {
      const double middle = (low + high) / 2;
      (fits(std::exp(middle)) ? high : low) = middle;
    }
    fits(std::exp(high));
  }

  Selection at(const Prices& prices) const {
    Selection selection;
    for (const std::vector<Choice>& offer : offers_) {
      const auto worth = [&prices](const Choice& choice) { return choice.kl - prices.of(choice); };
      const Choice* best = &offer.front();
      for (const Choice& choice : offer) {
        if (worth(choice) > worth(*best)) best = &choice;
      }
      selection.choices.push_back(best);
      selection.stored += best->stored, selection.read += best->read, selection.kl += best->kl;
    }
    return selection;
  }

  void keep(const Selection& selection) {
    last_ = selection;
    if (selection.stored <= stored_limit_ && selection.read <= read_limit_ && selection.kl > best_.kl) best_ = selection;
  }

  /// The change that restores most for the part of the limits that it takes, as long as there is one that fits.
  void fill() {
    while (true) {
      double best_ratio = 0;
      size_t at = 0;
      const Choice* chosen = nullptr;
      for (size_t i = 0; i < offers_.size(); ++i) {
        const Choice& now = *best_.choices[i];
        for (const Choice& choice : offers_[i]) {
          const double stored = choice.stored - now.stored, read = choice.read - now.read, kl = choice.kl - now.kl;
          if (!(kl > 0) || best_.stored + stored > stored_limit_ || best_.read + read > read_limit_) continue;
          const double ratio = kl / std::max(stored / stored_limit_ + read / read_limit_, 1e-12);
          if (ratio > best_ratio) best_ratio = ratio, at = i, chosen = &choice;
        }
      }
      if (chosen == nullptr) return;
      const Choice& before = *best_.choices[at];
      best_.stored += chosen->stored - before.stored, best_.read += chosen->read - before.read, best_.kl += chosen->kl - before.kl;
      best_.choices[at] = chosen;
    }
  }

  const std::vector<std::vector<Choice>>& offers_;
  const double stored_limit_, read_limit_;
  Prices highest_;
  Selection best_, last_;
};

}  // namespace

std::vector<CompressSurvey::Point> choose_branches(const ModelLayout& layout, std::span<const MatrixLoss> losses, const BranchForms& forms,
                                                   const BranchLimits& limits, int factor_bits, std::vector<MatrixPlan>* plans) {
  std::vector<std::vector<Choice>> offers;
  double all = 0;
  for (const MatrixLoss& loss : losses) all += loss.kl;
  const double least = kLeastShare * all / static_cast<double>(std::max<size_t>(losses.size(), 1));
  for (const MatrixLoss& loss : losses) {
    offers.push_back(choices_of(layout, loss, std::max(loss.kl, least), forms, limits.scattered_cost, factor_bits));
  }
  std::vector<CompressSurvey::Point> curve(1);
  for (const double share : kCurveShares) {
    const Selection selection = Choosing(offers, share * limits.stored_bytes, share * limits.read_bytes).run();
    curve.push_back({limits.read_bytes < BranchLimits::kNone ? selection.read : selection.stored, all > 0 ? selection.kl / all : 0});
    if (share != 1) continue;
    for (size_t i = 0; i < losses.size(); ++i) {
      MatrixPlan& plan = (*plans)[losses[i].matrix];
      const Choice& choice = *selection.choices[i];
      plan.rank = choice.rank, plan.share = choice.share, plan.restored = choice.part;
    }
  }
  return curve;
}

}  // namespace outrigger
