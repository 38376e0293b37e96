// ExpertForward: expert after expert, each with the rows of its tokens.
#include "src/forward/expert_forward.h"

#include <algorithm>

#include "src/base/macros.h"
#include "src/forward/float_matrix.h"
#include "src/kernels/route.h"

namespace outrigger {

Result<std::vector<ExpertRows>> route_tokens(const Model::Impl& model, uint32_t layer, std::span<const float> inputs, ThreadTeam& team) {
  const ModelConfig& config = model.layout->config;
  const WeightSource& router = model.layout->weights[model.layout->layers[layer].router];
  const size_t tokens = inputs.size() / config.width, used = config.used_experts;
  OTR_ASSIGN(const LeasedVector<float> values, read_matrix(model.file.source(), router));
  LeasedVector<float> logits(tokens * config.experts), weights(tokens * used);
  LeasedVector<uint32_t> chosen(tokens * used);
  PackedMatrix(values, router.rows, router.columns).multiply(inputs, tokens, logits.data(), config.experts, false, team);
  route({logits.data(), config.experts, used, config.normalise_expert_weights, chosen.data(), weights.data()}, 0, tokens);
  std::vector<ExpertRows> rows(config.experts);
  for (size_t i = 0; i < chosen.size(); ++i) {
    rows[chosen[i]].tokens.push_back(static_cast<uint32_t>(i / used));
    rows[chosen[i]].weights.push_back(weights[i]);
  }
  return rows;
}

std::span<const float> ExpertForward::gather(std::span<const uint32_t> tokens) {
  rows_.resize(tokens.size() * config_.width);
  for (size_t i = 0; i < tokens.size(); ++i) {
    const auto row = inputs_.subspan(tokens[i] * config_.width, config_.width);
    std::copy(row.begin(), row.end(), rows_.begin() + static_cast<ptrdiff_t>(i * config_.width));
  }
  return rows_;
}

std::span<const float> ExpertForward::activate(const PackedMatrix& gate, const PackedMatrix& up, std::span<const float> rows,
                                               const ExpertCorrections& corrections, std::span<const float> weights) {
  const size_t count = rows.size() / config_.width;
  gate_.resize(count * config_.expert_ffn_width);
  up_.resize(gate_.size());
  gate.multiply(rows, count, gate_.data(), config_.expert_ffn_width, false, team_);
  up.multiply(rows, count, up_.data(), config_.expert_ffn_width, false, team_);
  if (corrections.gate) corrections.gate(rows, weights, gate_.data());
  if (corrections.up) corrections.up(rows, weights, up_.data());
  forward_.activation(gate_, up_);
  return gate_;
}

void ExpertForward::add_expert(const ExpertMatrices& matrices, const ExpertRows& rows, std::span<float> residual,
                               const ExpertCorrections& corrections) {
  const uint64_t width = config_.width;
  for (size_t first = 0; first < rows.tokens.size(); first += kMostRows) {
    const size_t some = std::min(kMostRows, rows.tokens.size() - first);
    const auto tokens = std::span(rows.tokens).subspan(first, some);
    const auto weights = std::span(rows.weights).subspan(first, some);
    const std::span<const float> activations = activate(matrices.gate, matrices.up, gather(tokens), corrections, weights);
    results_.resize(some * width);
    matrices.down.multiply(activations, some, results_.data(), width, false, team_);
    if (corrections.down) corrections.down(activations, weights, results_.data());
    for (size_t i = 0; i < some; ++i) {
      float* const dst = residual.data() + tokens[i] * width;
      const float* const src = results_.data() + i * width;
      for (uint64_t k = 0; k < width; ++k) dst[k] += weights[i] * src[k];
    }
  }
}

}  // namespace outrigger
