// KlMeter: a forward pass of all layers, a matrix at a time for all chunks.
#include "src/forward/kl_meter.h"

#include <algorithm>
#include <cmath>
#include <new>
#include <utility>

#include "src/base/macros.h"
#include "src/forward/expert_forward.h"
#include "src/kernels/rms_norm.h"
#include "src/model/fixed_tensors.h"

namespace outrigger {
namespace {

constexpr size_t kSliceTokens = 64;  // whose logits are there at once: of 150,000 words, 77 MB for both models

// KL(p || q) of two rows of logits.
double kl_of_row(std::span<const float> p, std::span<const float> q) {
  const double p_most = *std::max_element(p.begin(), p.end()), q_most = *std::max_element(q.begin(), q.end());
  double p_sum = 0, q_sum = 0, difference = 0;
  for (size_t i = 0; i < p.size(); ++i) {
    const double weight = std::exp(p[i] - p_most);
    p_sum += weight;
    q_sum += std::exp(q[i] - q_most);
    difference += weight * ((p[i] - p_most) - (q[i] - q_most));
  }
  return difference / p_sum - std::log(p_sum) + std::log(q_sum);
}

}  // namespace

KlMeter::KlMeter(const Model::Impl& model, std::vector<Token> tokens, uint32_t chunk_tokens, ThreadTeam& team)
    : model_(model), layout_(*model.layout), tokens_(std::move(tokens)), chunk_tokens_(chunk_tokens), team_(team) {}

Result<std::unique_ptr<KlMeter>> KlMeter::create(const Model::Impl& model, std::vector<Token> tokens, uint32_t chunk_tokens,
                                                 ThreadTeam& team) try {
  const LeaseScope scope(MemoryUse::kCalibration);
  std::unique_ptr<KlMeter> meter(new KlMeter(model, std::move(tokens), chunk_tokens, team));
  const ModelLayout& layout = meter->layout_;
  meter->fixed_.resize(layout.shape.fixed_bytes / sizeof(float));
  OTR_TRY(load_fixed_tensors(model.file, layout, meter->fixed_.data()));
  meter->forward_.emplace(layout, meter->fixed_.data(), chunk_tokens, team);
  const MatrixReader own = [&](MatrixIndex part) { return read_matrix(model.file.source(), layout.weights[part.matrix], part.expert); };
  OTR_ASSIGN(PackedMatrix head, meter->packed(own, layout.head));
  meter->head_.emplace(std::move(head));
  OTR_TRY(meter->run_layers(own, 0, false));
  meter->wanted_ = meter->normed();
  return meter;
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

Result<PackedMatrix> KlMeter::packed(const MatrixReader& reader, MatrixIndex part) const {
  const LeaseScope scope(MemoryUse::kMatrices);
  OTR_ASSIGN(const LeasedVector<float> values, reader(part));
  return PackedMatrix(values, layout_.weights[part.matrix].rows, layout_.weights[part.matrix].columns);
}

LeasedVector<float> KlMeter::normed() const {
  LeasedVector<float> rows(residual_.size());
  const uint64_t width = layout_.config.width;
  rms_norm({residual_.data(), fixed_.data() + layout_.output_norm, rows.data(), tokens_.size(), width, layout_.config.norm_epsilon});
  return rows;
}

Status KlMeter::run_layers(const MatrixReader& reader, uint32_t first_layer, bool keeps) {
  const LeaseScope scope(MemoryUse::kCalibration);
  if (first_layer == 0) {
    OTR_ASSIGN(residual_, embed_tokens(model_, tokens_));
    if (keeps) before_.clear();
  } else {
    residual_ = before_[first_layer];
  }
  for (uint32_t layer = first_layer; layer < layout_.config.layers; ++layer) {
    if (keeps) before_.push_back(residual_);
    OTR_TRY(run_layer(reader, layer));
  }
  return {};
}

Status KlMeter::run_layer(const MatrixReader& reader, uint32_t layer) {
  OTR_TRY(run_attention(reader, layer));
  return layout_.config.experts == 0 ? run_dense_ffn(reader, layer) : run_mixture(reader, layer);
}

Status KlMeter::run_attention(const MatrixReader& reader, uint32_t layer) {
  const LayerLayout& parts = layout_.layers[layer];
  const ModelConfig& config = layout_.config;
  const size_t tokens = chunk_tokens_;
  const uint64_t q_width = config.attention_width(), qkv_width = q_width + 2 * config.kv_width();
  LeasedVector<float> input(tokens * config.width), qkv(tokens * qkv_width), attended(tokens * q_width);
  OTR_ASSIGN(const PackedMatrix q, packed(reader, parts.q));
  OTR_ASSIGN(const PackedMatrix k, packed(reader, parts.k));
  OTR_ASSIGN(const PackedMatrix v, packed(reader, parts.v));
  OTR_ASSIGN(const PackedMatrix output, packed(reader, parts.output));
  for (size_t i = 0; i < chunks(); ++i) {
    forward_->attention_input(layer, chunk(i), input);
    q.multiply(input, tokens, qkv.data(), qkv_width, false, team_);
    k.multiply(input, tokens, qkv.data() + q_width, qkv_width, false, team_);
    v.multiply(input, tokens, qkv.data() + q_width + config.kv_width(), qkv_width, false, team_);
    forward_->attention(layer, qkv, attended);
    output.multiply(attended, tokens, chunk(i).data(), config.width, true, team_);
    forward_->add_bias_of(parts.output, chunk(i).data(), config.width, tokens);
  }
  return {};
}

Status KlMeter::run_dense_ffn(const MatrixReader& reader, uint32_t layer) {
  const LayerLayout& parts = layout_.layers[layer];
  const ModelConfig& config = layout_.config;
  const size_t tokens = chunk_tokens_;
  OTR_ASSIGN(const PackedMatrix gate, packed(reader, parts.ffn.gate));
  OTR_ASSIGN(const PackedMatrix up, packed(reader, parts.ffn.up));
  OTR_ASSIGN(const PackedMatrix down, packed(reader, parts.ffn.down));
  LeasedVector<float> input(tokens * config.width), gates(tokens * config.ffn_width), ups(tokens * config.ffn_width);
  for (size_t i = 0; i < chunks(); ++i) {
    forward_->ffn_input(layer, chunk(i), input);
    gate.multiply(input, tokens, gates.data(), config.ffn_width, false, team_);
    up.multiply(input, tokens, ups.data(), config.ffn_width, false, team_);
    forward_->add_bias_of(parts.ffn.gate, gates.data(), config.ffn_width, tokens);
    forward_->add_bias_of(parts.ffn.up, ups.data(), config.ffn_width, tokens);
    forward_->activation(gates, ups);
    down.multiply(gates, tokens, chunk(i).data(), config.width, true, team_);
    forward_->add_bias_of(parts.ffn.down, chunk(i).data(), config.width, tokens);
  }
  return {};
}

// Experts that no token takes are not read.
Status KlMeter::run_mixture(const MatrixReader& reader, uint32_t layer) {
  const FfnLayout& stacks = layout_.layers[layer].ffn;
  LeasedVector<float> inputs(residual_.size());
  forward_->ffn_input(layer, residual_, inputs);
  OTR_ASSIGN(const std::vector<ExpertRows> rows, route_tokens(model_, layer, inputs, team_));
  if (layout_.config.shared_ffn_width > 0) OTR_TRY(run_shared_expert(reader, layer, inputs));
  ExpertForward experts(layout_.config, *forward_, inputs, team_);
  for (uint32_t expert = 0; expert < rows.size(); ++expert) {
    if (rows[expert].tokens.empty()) continue;
    OTR_ASSIGN(PackedMatrix gate, packed(reader, {stacks.gate, expert}));
    OTR_ASSIGN(PackedMatrix up, packed(reader, {stacks.up, expert}));
    OTR_ASSIGN(PackedMatrix down, packed(reader, {stacks.down, expert}));
    experts.add_expert({std::move(gate), std::move(up), std::move(down)}, rows[expert], residual_);
  }
  return {};
}

Status KlMeter::run_shared_expert(const MatrixReader& reader, uint32_t layer, std::span<const float> inputs) {
  const FfnLayout& parts = layout_.layers[layer].shared;
  const uint64_t width = layout_.config.width, ffn_width = layout_.config.shared_ffn_width;
  const size_t tokens = tokens_.size();
  LeasedVector<float> gates(tokens * ffn_width), ups(tokens * ffn_width), results(tokens * width);
  const auto multiply = [&](uint32_t matrix, std::span<const float> src, LeasedVector<float>* dst) -> Status {
    OTR_ASSIGN(const PackedMatrix values, packed(reader, matrix));
    values.multiply(src, tokens, dst->data(), layout_.weights[matrix].rows, false, team_);
    return {};
  };
  OTR_TRY(multiply(parts.gate, inputs, &gates));
  OTR_TRY(multiply(parts.up, inputs, &ups));
  forward_->activation(gates, ups);
  OTR_TRY(multiply(parts.down, gates, &results));
  forward_->add_shared(layer, results, inputs, residual_);
  return {};
}

Result<double> KlMeter::measure(const MatrixReader& reader) try {
  OTR_TRY(run_layers(reader, 0, false));
  return distance();
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

Result<double> KlMeter::measure_from(const MatrixReader& reader, uint32_t first_layer) try {
  OTR_TRY(run_layers(reader, first_layer, false));
  return distance();
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

Result<double> KlMeter::begin(const MatrixReader& reader) try {
  OTR_TRY(run_layers(reader, 0, true));
  return distance();
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

Result<double> KlMeter::distance() {
  const LeaseScope scope(MemoryUse::kCalibration);
  const LeasedVector<float> got = normed();
  const uint64_t width = layout_.config.width, vocabulary = layout_.vocabulary;
  LeasedVector<float> p(kSliceTokens * vocabulary), q(kSliceTokens * vocabulary);
  std::vector<double> kl(tokens_.size());
  for (size_t first = 0; first < tokens_.size(); first += kSliceTokens) {
    const size_t some = std::min(kSliceTokens, tokens_.size() - first);
    head_->multiply(std::span(wanted_).subspan(first * width, some * width), some, p.data(), vocabulary, false, team_);
    head_->multiply(std::span(got).subspan(first * width, some * width), some, q.data(), vocabulary, false, team_);
    team_.run([&](const TeamMember& member) {
      size_t begin, end;
      member.share(some, 1, &begin, &end);
      for (size_t t = begin; t < end; ++t) {
        kl[first + t] = kl_of_row(std::span(p).subspan(t * vocabulary, vocabulary), std::span(q).subspan(t * vocabulary, vocabulary));
      }
    });
  }
  double sum = 0;
  for (const double one : kl) sum += one;
  return sum / static_cast<double>(kl.size());
}

}  // namespace outrigger
