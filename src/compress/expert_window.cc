// ExpertWindow: for each expert first what its inputs are, then gate and up, then what these make of the inputs, then down.
#include "src/compress/expert_window.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/compress/expert_residual.h"
#include "src/compress/output_loss.h"
#include "src/forward/float_matrix.h"
#include "src/tensor/dequantize.h"

namespace outrigger {
namespace {

// Of many tokens one of eight is kept, as of a matrix that all pass; of fewer so many that there are 64 all the same.
InputSample sample_of(size_t width, size_t tokens) {
  constexpr size_t kLeastRows = 64;
  const size_t kept_of = std::clamp<size_t>(tokens / kLeastRows, 1, InputSample::kKeptOf);
  return InputSample(width, InputSample::kept_rows(tokens, ExpertForward::kMostRows, kept_of), kept_of);
}

}  // namespace

ExpertWindow::ExpertWindow(const Model::Impl& model, uint32_t layer, const LayerForward& forward, std::span<const float> inputs,
                           std::span<const ExpertRows> rows, ThreadTeam& team, const CompressOptions& options, const SurveyWishes& wishes)
    : model_(model),
      layout_(*model.layout),
      parts_(layout_.layers[layer]),
      rows_(rows),
      team_(team),
      group_columns_(options.feedback_columns),
      forward_(layout_.config, forward, inputs, team),
      maker_(options, {0, wishes.columns}, team) {}

ExpertRows ExpertWindow::spread_rows(size_t count) const {
  const size_t all = forward_.tokens(), used = std::min(count, all);
  double sum = 0;
  for (const ExpertRows& rows : rows_) sum = std::accumulate(rows.weights.begin(), rows.weights.end(), sum);
  const double taken = static_cast<double>(all) * layout_.config.used_experts;
  ExpertRows spread;
  for (size_t i = 0; i < used; ++i) spread.tokens.push_back(static_cast<uint32_t>(i * all / used));
  spread.weights.assign(used, static_cast<float>(sum / taken));
  return spread;
}

template <typename Take>
void ExpertWindow::activations(const ExpertRows& rows, const PackedMatrix& gate, const PackedMatrix& up,
                               const ExpertCorrections& corrections, Take&& take) {
  for (size_t first = 0; first < rows.tokens.size(); first += ExpertForward::kMostRows) {
    const size_t some = std::min(ExpertForward::kMostRows, rows.tokens.size() - first);
    const auto weights = std::span(rows.weights).subspan(first, some);
    take(forward_.activate(gate, up, forward_.gather(std::span(rows.tokens).subspan(first, some)), corrections, weights), weights);
  }
}

Gram ExpertWindow::input_gram(uint32_t expert) {
  const uint64_t width = layout_.config.width;
  const auto add_some = [&](Gram* gram, size_t tokens, auto&& rows_from) {
    for (size_t first = 0; first < tokens; first += ExpertForward::kMostRows)
      gram->add(rows_from(first, std::min(ExpertForward::kMostRows, tokens - first)), team_);
  };
  if (!pool_) {
    pool_.emplace(width, group_columns_);
    add_some(&*pool_, forward_.tokens(), [&](size_t first, size_t some) { return forward_.inputs().subspan(first * width, some * width); });
  }
  const std::span<const uint32_t> own = rows_[expert].tokens;
  Gram gram(width, group_columns_);
  add_some(&gram, own.size(), [&](size_t first, size_t some) { return forward_.gather(own.subspan(first, some)); });
  gram.add_mean(*pool_, pooled_tokens(width));
  return gram;
}

// The fewer tokens of its own, the more of the layer's, so that together they are as many as the matrix has columns.
Result<Gram> ExpertWindow::activation_gram(uint32_t expert, const PackedMatrix& gate, const PackedMatrix& up,
                                           const ExpertCorrections& corrections, InputSample* sample) {
  const uint64_t width = layout_.config.expert_ffn_width, counted = pooled_tokens(width), own = rows_[expert].tokens.size();
  Gram gram(width, group_columns_), pool(width, group_columns_);
  Status status;
  const auto add_to = [&](Gram* sums, bool is_sampled) {
    return [this, sums, is_sampled, sample, &status](std::span<const float> rows, std::span<const float> weights) {
      sums->add(rows, team_);
      if (is_sampled && sample != nullptr && status.is_ok()) status = sample->add(rows, weights);
    };
  };
  activations(rows_[expert], gate, up, corrections, add_to(&gram, true));
  const ExpertRows others = spread_rows(std::max(counted, width - std::min(width, own)));
  activations(others, gate, up, corrections, add_to(&pool, own == 0));
  OTR_TRY(status);
  gram.add_mean(pool, counted);
  return gram;
}

Result<ExpertWindow::Statistics> ExpertWindow::statistics(const Gram& gram, InputSample sample, int bits) {
  LeasedVector<float> diagonal(gram.width());
  for (size_t i = 0; i < diagonal.size(); ++i) diagonal[i] = static_cast<float>(gram.mean(i, i));
  OTR_ASSIGN(LeasedVector<float> feedback, feedback_factor(gram, feedback_damping(bits), team_));
  return Statistics{std::move(diagonal), std::move(feedback), std::move(sample)};
}

// What an expert without tokens would lose is told by those of others.
Result<ExpertWindow::Statistics> ExpertWindow::input_statistics(uint32_t expert, int bits) {
  const Gram gram = input_gram(expert);
  const bool has_own = !rows_[expert].tokens.empty();
  const ExpertRows spread = has_own ? ExpertRows() : spread_rows(pooled_tokens(gram.width()));
  const ExpertRows& rows = has_own ? rows_[expert] : spread;
  InputSample sample = sample_of(gram.width(), rows.tokens.size());
  for (size_t first = 0; first < rows.tokens.size(); first += ExpertForward::kMostRows) {
    const size_t some = std::min(ExpertForward::kMostRows, rows.tokens.size() - first);
    OTR_TRY(sample.add(forward_.gather(std::span(rows.tokens).subspan(first, some)), std::span(rows.weights).subspan(first, some)));
  }
  return statistics(gram, std::move(sample), bits);
}

Result<ExpertWindow::Statistics> ExpertWindow::activation_statistics(uint32_t expert, std::span<const CompressedMatrix> gate_and_up,
                                                                     int bits) {
  const uint64_t width = layout_.config.expert_ffn_width;
  const size_t own = rows_[expert].tokens.size();
  InputSample sample = sample_of(width, own > 0 ? own : std::max<size_t>(pooled_tokens(width), width));
  OTR_ASSIGN(const Gram gram,
             activation_gram(expert, packed(gate_and_up[0]), packed(gate_and_up[1]), corrections_of(gate_and_up, team_), &sample));
  return statistics(gram, std::move(sample), bits);
}

Result<CompressedMatrix> ExpertWindow::compress_matrix(uint32_t matrix, uint32_t expert, const MatrixPlan& plan, const Statistics& inputs) {
  const WeightSource& weight = layout_.weights[matrix];
  OTR_ASSIGN(const LeasedVector<float> wanted, read_matrix(model_.file.source(), weight, expert));
  LeasedVector<float> values = wanted;
  const WindowInputs known{{inputs.diagonal, inputs.feedback, group_columns_}, nullptr, inputs.sample};
  OTR_ASSIGN(CompressedMatrix made, maker_.make(plan, known, weight.rows, weight.columns, &values));
  measure_loss(wanted, values, inputs.sample, team_, &made);
  made.tokens = rows_[expert].tokens.size();
  return made;
}

PackedMatrix ExpertWindow::packed(const CompressedMatrix& made) const {
  const LeaseScope scope(MemoryUse::kMatrices);
  const LowBitMatrix& backbone = made.backbone;
  LeasedVector<float> values(backbone.rows * backbone.columns);
  (void)dequantize(backbone.type, backbone.bytes.data(), values.data(), values.size());  // whole blocks of a type of ours
  return PackedMatrix(values, backbone.rows, backbone.columns);
}

Result<std::vector<CompressedMatrix>> ExpertWindow::compress(uint32_t expert, std::span<const MatrixPlan> plans) {
  const LeaseScope scope(MemoryUse::kMatrices);
  const auto named = [&](uint32_t matrix, const Status& status) {
    return Status(status.code(), formatted("expert {}: {}", expert, status.message()))
        .in_file(status.file())
        .about(layout_.shape.matrices[matrix].name);
  };
  std::vector<CompressedMatrix> made;
  const auto compress_one = [&](uint32_t matrix, const Result<Statistics>& inputs) -> Status {
    if (!inputs.is_ok()) return named(matrix, inputs.status());
    Result<CompressedMatrix> one = compress_matrix(matrix, expert, plans[matrix], inputs.value());
    if (!one.is_ok()) return named(matrix, one.status());
    made.push_back(std::move(one).value());
    return {};
  };
  {
    const uint32_t both[] = {parts_.ffn.gate, parts_.ffn.up};
    const Result<Statistics> inputs = input_statistics(expert, fewest_bits(plans, both));
    OTR_TRY(compress_one(parts_.ffn.gate, inputs));
    OTR_TRY(compress_one(parts_.ffn.up, inputs));
  }
  OTR_TRY(compress_one(parts_.ffn.down, activation_statistics(expert, made, plans[parts_.ffn.down].bits)));
  return made;
}

void ExpertWindow::add_to(uint32_t expert, std::span<const CompressedMatrix> made, std::span<float> residual) {
  if (rows_[expert].tokens.empty()) return;
  forward_.add_expert({packed(made[0]), packed(made[1]), packed(made[2])}, rows_[expert], residual, corrections_of(made, team_));
}

void ExpertStacks::add(std::vector<CompressedMatrix> expert) {
  if (stacks_.empty()) stacks_.resize(expert.size());
  for (size_t i = 0; i < expert.size(); ++i) {
    CompressedMatrix &stack = stacks_[i], &one = expert[i];
    stack.backbone.type = one.backbone.type;
    stack.backbone.columns = one.backbone.columns;
    stack.backbone.rows += one.backbone.rows;
    stack.backbone.bytes.reserve(experts_ * one.backbone.bytes.size());
    stack.backbone.bytes.insert(stack.backbone.bytes.end(), one.backbone.bytes.begin(), one.backbone.bytes.end());
    append_residual(one.residual, experts_, &stack.residual);
    const auto tokens = static_cast<double>(one.tokens);
    for (size_t k = 0; k <= ShareCurve::kSteps; ++k) stack.curve.restored[k] += tokens * one.curve.restored[k];
    stack.loss += tokens * one.loss;
    stack.loss_left += tokens * one.loss_left;
    stack.tokens += one.tokens;
  }
}

std::vector<CompressedMatrix> ExpertStacks::finish() {
  for (CompressedMatrix& stack : stacks_) {
    const auto tokens = static_cast<double>(std::max<uint64_t>(stack.tokens, 1));
    stack.loss /= tokens;
    stack.loss_left /= tokens;
    for (double& restored : stack.curve.restored) restored /= tokens;
  }
  return std::exchange(stacks_, {});
}

}  // namespace outrigger
