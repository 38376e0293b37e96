// HCInfer's allocation: scores first, then the largest scale that fits.
#include "src/compress/hcinfer_allocation.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace outrigger {
namespace {

constexpr uint32_t kLeastRank = 32;
constexpr double kLeastBend = 0.01;  // of the first singular value: the source's
constexpr int kSearchSteps = 60;

double mean(std::span<const double> values) {
  return values.empty() ? 0 : std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

/// 1 for the most sensitive quarter of the layers, for the others their part of the least of these.
std::vector<double> layer_scores(std::span<const double> kl_by_layer) {
  std::vector<double> falling(kl_by_layer.begin(), kl_by_layer.end());
  std::sort(falling.rbegin(), falling.rend());
  const double least = falling[(falling.size() + 3) / 4 - 1];
  std::vector<double> scores;
  for (const double kl : kl_by_layer) scores.push_back(least > 0 ? std::min(1.0, kl / least) : 1);
  return scores;
}

uint32_t aligned(double rank, const MatrixLoss& loss) {
  const double most = std::min(rank, static_cast<double>(loss.spectrum.size()));
  uint32_t power = kLeastRank;
  while (2.0 * power <= most) power *= 2;
  return power <= most ? power : 0;
}

}  // namespace

double recoverability(std::span<const double> spectrum) {
  if (spectrum.size() < 3 || !(spectrum[0] > 0)) return 1;
  std::vector<double> values;
  for (const double square : spectrum) values.push_back(std::sqrt(std::max(square, 0.0) / spectrum[0]));
  size_t salient = 0;
  double sharpest = kLeastBend;
  for (size_t j = 1; j + 1 < values.size(); ++j) {
    const double bend = values[j - 1] - 2 * values[j] + values[j + 1];
    if (bend > sharpest) sharpest = bend, salient = j;
  }
  if (salient == 0) return 1;
  const double rest = mean(std::span(values).subspan(salient));
  return rest > 0 ? mean(std::span(values).first(salient)) / rest : 1;
}

void allocate_like_hcinfer(const ModelLayout& layout, std::span<const MatrixLoss> losses, std::span<const double> kl_by_layer,
                           uint64_t budget_bytes, int factor_bits, std::vector<MatrixPlan>* plans) {
  const std::vector<double> of_layer = layer_scores(kl_by_layer);
  std::vector<double> scores(layout.weights.size());
  std::vector<const MatrixLoss*> loss_of(layout.weights.size());
  for (const MatrixLoss& loss : losses) loss_of[loss.matrix] = &loss;
  for (size_t layer = 0; layer < layout.layers.size(); ++layer) {
    for (const auto& [window, expert] : windows_of(layout, static_cast<uint32_t>(layer))) {
      if (is_stack(layout, window.front())) continue;
      double recoverable = 0, sensitive = 0, all = 0;
      for (const uint32_t matrix : window) recoverable += recoverability(loss_of[matrix]->spectrum), sensitive += loss_of[matrix]->kl;
      for (const uint32_t matrix : window) {
        scores[matrix] = recoverability(loss_of[matrix]->spectrum) / recoverable * (sensitive > 0 ? loss_of[matrix]->kl / sensitive : 1);
        all += scores[matrix];
      }
      for (const uint32_t matrix : window) scores[matrix] *= all > 0 ? of_layer[layer] / all : 0;
    }
  }
  const auto bytes_at = [&](double standard) {
    uint64_t bytes = 0;
    for (const MatrixLoss& loss : losses) {
      const WeightSource& weight = layout.weights[loss.matrix];
      bytes += branch_bytes(weight.rows, weight.columns, aligned(scores[loss.matrix] * standard, loss), factor_bits);
    }
    return bytes;
  };
  double low = 0, high = 1e9;
  for (int step = 0; step < kSearchSteps; ++step) {
    const double middle = (low + high) / 2;
    (bytes_at(middle) <= budget_bytes ? low : high) = middle;
  }
  for (const MatrixLoss& loss : losses) {
    MatrixPlan& plan = (*plans)[loss.matrix];
    plan.rank = aligned(scores[loss.matrix] * low, loss);
    plan.restored =
        loss.all > 0 && plan.rank > 0 ? std::accumulate(loss.spectrum.begin(), loss.spectrum.begin() + plan.rank, 0.0) / loss.all : 0;
  }
}

}  // namespace outrigger
