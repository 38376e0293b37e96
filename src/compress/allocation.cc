// Allocation: distances with one part after the other put right, and a queue of bits to buy next.
#include "src/compress/allocation.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <queue>
#include <utility>

#include "src/base/macros.h"
#include "src/compress/saved_work.h"

namespace outrigger {
namespace {

/// One more bit for a matrix.
struct Offer {
  double worth_per_weight = 0;
  size_t loss = 0;
  bool operator<(const Offer& other) const {
    // Of equals the first
    return worth_per_weight != other.worth_per_weight ? worth_per_weight < other.worth_per_weight : loss > other.loss;
  }
};

}  // namespace

Result<CompressSurvey> measure_losses(const ModelLayout& layout, KlMeter& meter, const MatrixReader& lossy, const MatrixReader& exact,
                      const std::function<Status(uint32_t done, uint32_t all)>& watch, std::vector<MatrixLoss>* losses, SavedWork* saved) {
  const uint32_t layers = layout.config.layers, kinds = static_cast<uint32_t>(kinds_of(layout).size()), all = kinds + layers + 1;
  uint32_t done = 0;
  std::vector<uint32_t> kind_of(layout.weights.size()), layer_of(layout.weights.size());
  for (uint32_t layer = 0; layer < layers; ++layer) {
    const auto matrices = compressed_matrices(layout.layers[layer]);
    for (size_t kind = 0; kind < kinds; ++kind) kind_of[matrices[kind]] = static_cast<uint32_t>(kind), layer_of[matrices[kind]] = layer;
  }
  const auto restored = [&](auto is_restored) {
    return [&, is_restored](MatrixIndex part) { return is_restored(part.matrix) ? exact(part) : lossy(part); };
  };
  CompressSurvey survey;
  std::vector<double>&of_kind = survey.kl_by_kind, &of_layer = survey.kl_by_layer;
  of_kind.resize(kinds);
  of_layer.resize(layers);
  const auto measured = [&](const std::function<Result<double>()>& measure) -> Result<double> {
    const bool is_there = saved != nullptr && done < saved->numbers();
    Result<double> number = is_there ? Result<double>(saved->number(done)) : measure();
    if (!number.is_ok()) return number;
    if (saved != nullptr && !is_there) saved->keep_number(number.value());
    OTR_TRY(watch(++done, all));
    return number;
  };
  for (size_t kind = 0; kind < kinds; ++kind) {
    OTR_ASSIGN(of_kind[kind], measured([&] { return meter.measure(restored([&](uint32_t matrix) { return kind_of[matrix] == kind; })); }));
  }
  const bool has_begun = saved != nullptr && saved->numbers() > kinds, is_over = saved != nullptr && saved->numbers() == all;
  OTR_ASSIGN(const double nothing, measured([&] { return meter.begin(lossy); }));
  if (has_begun && !is_over) OTR_TRY(meter.begin(lossy).status());  // for the layers to begin from
  survey.kl = nothing;
  for (uint32_t layer = 0; layer < layers; ++layer) {
    OTR_ASSIGN(of_layer[layer],
               measured([&] { return meter.measure_from(restored([&](uint32_t matrix) { return layer_of[matrix] == layer; }), layer); }));
  }
  double sum = 0;
  for (double& kl : of_kind) kl = std::max(nothing - kl, 0.0);
  for (double& kl : of_layer) sum += kl = std::max(nothing - kl, 0.0);
  for (MatrixLoss& loss : *losses) loss.kl = sum == 0 ? 0 : of_kind[kind_of[loss.matrix]] * of_layer[layer_of[loss.matrix]] / sum;
  return survey;
}

void allocate_bits(const ModelLayout& layout, std::span<const MatrixLoss> losses, double mean_bits, std::vector<MatrixPlan>* plans) {
  constexpr int kLeast = 2, kMost = 4;
  if (losses.empty()) return;
  const int measured_at = (*plans)[losses.front().matrix].bits;
  const auto weights_of = [&](size_t i) {
    const WeightSource& weight = layout.weights[losses[i].matrix];
    return static_cast<double>(weight.rows * weight.columns * weight.experts);
  };
  const auto loss_at = [&](size_t i, int bits) { return losses[i].kl * std::pow(4.0, measured_at - bits); };
  double left = 0;
  std::priority_queue<Offer> offers;
  const auto offer = [&](size_t i) {
    const int bits = (*plans)[losses[i].matrix].bits;
    if (bits < kMost) offers.push({(loss_at(i, bits) - loss_at(i, bits + 1)) / weights_of(i), i});
  };
  for (size_t i = 0; i < losses.size(); ++i) {
    (*plans)[losses[i].matrix].bits = kLeast;
    left += (mean_bits - kLeast) * weights_of(i);
    offer(i);
  }
  while (!offers.empty()) {
    const size_t i = offers.top().loss;
    offers.pop();
    if (weights_of(i) > left) continue;
    left -= weights_of(i);
    ++(*plans)[losses[i].matrix].bits;
    offer(i);
  }
}

}  // namespace outrigger
