// Compressor: for each window first what its inputs are, then its matrices, then what they make of the inputs.
#include "src/compress/compressor.h"

#include <algorithm>
#include <new>
#include <optional>
#include <utility>

#include "src/base/macros.h"
#include "src/compress/expert_window.h"
#include "src/compress/matrix_record.h"
#include "src/compress/output_loss.h"
#include "src/compress/saved_work.h"
#include "src/forward/float_matrix.h"
#include "src/model/fixed_tensors.h"
#include "src/tensor/dequantize.h"

namespace outrigger {

Result<std::unique_ptr<Compressor>> Compressor::create(const Model::Impl& model, std::span<const Token> tokens,
                                                       const CompressOptions& options) try {
  const LeaseScope scope(MemoryUse::kCalibration);
  std::unique_ptr<Compressor> compressor(new Compressor(model, options));
  OTR_ASSIGN(compressor->team_, ThreadTeam::create(options.threads > 0 ? options.threads : usable_cores()));
  compressor->fixed_.resize(model.layout->shape.fixed_bytes / sizeof(float));
  OTR_TRY(load_fixed_tensors(model.file, *model.layout, compressor->fixed_.data()));
  compressor->forward_ = std::make_unique<LayerForward>(*model.layout, compressor->fixed_.data(), options.chunk_tokens, *compressor->team_);
  OTR_ASSIGN(compressor->residual_, embed_tokens(model, tokens));
  return compressor;
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

Status Compressor::run(std::span<const MatrixPlan> plans, const Sink& sink, const Watch& watch) try {
  const LeaseScope scope(MemoryUse::kCalibration);
  plans_ = plans;
  watch_ = &watch;
  windows_done_ = 0;
  const uint32_t layers = layout_.config.layers;
  saved_windows_ = saved_ != nullptr ? saved_->windows() : 0;
  // Behind the last layer nobody asks for the stream.
  const uint32_t taken = saved_windows_ == all_windows() ? layers : saved_ != nullptr ? saved_->restore_stream(&residual_) : 0;
  OTR_TRY(watch(0, all_windows()));
  for (uint32_t layer = 0; layer < layers; ++layer) {
    if (layer < taken) {
      OTR_TRY(take_layer(layer, sink));
      continue;
    }
    OTR_TRY(run_attention(layout_.layers[layer], layer, sink));
    OTR_TRY(layout_.config.experts == 0 ? run_dense_ffn(layer, sink) : run_mixture(layer, sink));
    if (saved_ != nullptr && layer + 1 < layers) saved_->keep_stream(layer + 1, residual_);
  }
  return {};
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

Status Compressor::next_window() { return (*watch_)(++windows_done_, all_windows()); }

// What was there when the run began may be gone, if the disk became full since.
bool Compressor::is_saved() const { return windows_done_ < saved_windows_ && windows_done_ < saved_->windows(); }

// What the stream behind it is known for.
Status Compressor::take_layer(uint32_t layer, const Sink& sink) {
  ExpertStacks stacks(layout_.config.experts);
  for (const Window& window : windows_of(layout_, layer)) {
    OTR_ASSIGN(std::vector<CompressedMatrix> saved, saved_->window(windows_done_));
    if (is_stack(layout_, window.matrices.front())) {
      stacks.add(std::move(saved));
    } else {
      for (size_t i = 0; i < saved.size(); ++i) OTR_TRY(sink(window.matrices[i], std::move(saved[i])));
    }
    OTR_TRY(next_window());
  }
  return sink_stacks(layer, stacks.finish(), sink);
}

LeasedVector<float> Compressor::restored_values(const CompressedMatrix& made) const {
  const LeaseScope scope(MemoryUse::kMatrices);
  const LowBitMatrix& backbone = made.backbone;
  LeasedVector<float> values(backbone.rows * backbone.columns);
  (void)dequantize(backbone.type, backbone.bytes.data(), values.data(), values.size());  // whole blocks of a type of ours
  if (made.branch.rank == 0) return values;
  const LeasedVector<float> restored = branch_values(made.branch, *team_);
  for (size_t i = 0; i < values.size(); ++i) values[i] += restored[i];
  return values;
}

Result<std::vector<Compressor::Made>> Compressor::take_window(std::span<const uint32_t> matrices, const Sink& sink) {
  const LeaseScope scope(MemoryUse::kMatrices);
  OTR_ASSIGN(std::vector<CompressedMatrix> saved, saved_->window(windows_done_));
  std::vector<Made> window;
  for (size_t i = 0; i < matrices.size(); ++i) {
    const WeightSource& weight = layout_.weights[matrices[i]];
    window.push_back({matrices[i], PackedMatrix(restored_values(saved[i]), weight.rows, weight.columns), saved[i].residual});
    OTR_TRY(sink(matrices[i], std::move(saved[i])));
  }
  OTR_TRY(next_window());
  return window;
}

Result<std::vector<Compressor::Made>> Compressor::compress_window(Inputs inputs, std::span<const uint32_t> matrices, const Sink& sink) {
  if (is_saved()) return take_window(matrices, sink);
  const LeaseScope scope(MemoryUse::kMatrices);
  const Gram& gram = *inputs.gram;
  LeasedVector<float> diagonal(gram.width());
  for (size_t i = 0; i < diagonal.size(); ++i) diagonal[i] = static_cast<float>(gram.mean(i, i));
  Result<LeasedVector<float>> feedback = feedback_factor(gram, feedback_damping(fewest_bits(plans_, matrices)), *team_);
  if (!feedback.is_ok()) return feedback.status().about(layout_.shape.matrices[matrices.front()].name);
  std::optional<InputRoot> root;
  if (std::any_of(matrices.begin(), matrices.end(), [this](uint32_t matrix) { return wishes_.components + plans_[matrix].rank > 0; })) {
    OTR_ASSIGN(root, InputRoot::create(gram, kDamping));
  }
  inputs.gram.reset();
  const WindowInputs known{{diagonal, feedback.value(), options_.feedback_columns}, root ? &*root : nullptr, inputs.sample};
  const MatrixMaker maker(options_, wishes_, *team_);
  std::vector<Made> window;
  LeasedVector<std::byte> record;
  for (const uint32_t matrix : matrices) {
    const WeightSource& weight = layout_.weights[matrix];
    OTR_ASSIGN(LeasedVector<float> values, read_matrix(model_.file.source(), weight));
    const LeasedVector<float> wanted = values;
    Result<CompressedMatrix> made = maker.make(plans_[matrix], known, weight.rows, weight.columns, &values);
    if (!made.is_ok()) return made.status().about(layout_.shape.matrices[matrix].name);
    measure_loss(wanted, values, inputs.sample, *team_, &made.value());
    window.push_back({matrix, PackedMatrix(values, weight.rows, weight.columns), made->residual});
    if (saved_ != nullptr) append_matrix_record(made.value(), &record);
    OTR_TRY(sink(matrix, std::move(made).value()));
  }
  if (saved_ != nullptr) saved_->keep_window(record);
  OTR_TRY(next_window());
  return window;
}

Status Compressor::add_inputs(std::span<const float> x, Inputs* inputs) {
  if (!inputs->gram) return {};
  inputs->gram->add(x, *team_);
  return inputs->sample.add(x);
}

Status Compressor::run_attention(const LayerLayout& parts, uint32_t layer, const Sink& sink) {
  const ModelConfig& config = layout_.config;
  const size_t tokens = options_.chunk_tokens;
  const uint64_t q_width = config.attention_width(), qkv_width = q_width + 2 * config.kv_width();
  LeasedVector<float> input(tokens * config.width), qkv(tokens * qkv_width), attended(chunks() * tokens * q_width);

  const uint32_t inner[] = {parts.q, parts.k, parts.v}, outer[] = {parts.output};
  Inputs of_input = inputs_of(config.width);
  for (size_t i = 0; i < chunks(); ++i) {
    forward_->attention_input(layer, chunk(residual_, i, config.width), input);
    OTR_TRY(add_inputs(input, &of_input));
  }
  OTR_ASSIGN(const std::vector<Made> window, compress_window(std::move(of_input), inner, sink));
  Inputs of_attention = inputs_of(q_width);
  for (size_t i = 0; i < chunks(); ++i) {
    forward_->attention_input(layer, chunk(residual_, i, config.width), input);
    const uint64_t places[] = {0, q_width, q_width + config.kv_width()};
    for (size_t m = 0; m < window.size(); ++m) window[m].multiply(input, tokens, qkv.data() + places[m], qkv_width, false, *team_);
    forward_->attention(layer, qkv, chunk(attended, i, q_width));
    OTR_TRY(add_inputs(chunk(attended, i, q_width), &of_attention));
  }
  OTR_ASSIGN(const std::vector<Made> output, compress_window(std::move(of_attention), outer, sink));
  for (size_t i = 0; i < chunks(); ++i) {
    float* const residual = chunk(residual_, i, config.width).data();
    output[0].multiply(chunk(attended, i, q_width), tokens, residual, config.width, true, *team_);
    forward_->add_bias_of(parts.output, residual, config.width, tokens);
  }
  return {};
}

// The activations of all chunks at once would be most of the memory: what the gate and up make is computed twice instead.
Status Compressor::run_ffn(const Ffn& ffn, const Sink& sink) {
  const size_t tokens = options_.chunk_tokens;
  LeasedVector<float> gate(tokens * ffn.width), up(tokens * ffn.width);
  Inputs of_input = inputs_of(layout_.config.width);
  for (size_t i = 0; i < chunks() && of_input.gram; ++i) OTR_TRY(add_inputs(ffn.input(i), &of_input));
  const uint32_t inner[] = {ffn.parts.gate, ffn.parts.up}, outer[] = {ffn.parts.down};
  OTR_ASSIGN(const std::vector<Made> window, compress_window(std::move(of_input), inner, sink));
  const auto activate = [&](size_t i) {
    const std::span<const float> input = ffn.input(i);
    window[0].multiply(input, tokens, gate.data(), ffn.width, false, *team_);
    window[1].multiply(input, tokens, up.data(), ffn.width, false, *team_);
    forward_->add_bias_of(ffn.parts.gate, gate.data(), ffn.width, tokens);
    forward_->add_bias_of(ffn.parts.up, up.data(), ffn.width, tokens);
    forward_->activation(gate, up);
  };
  Inputs of_activations = inputs_of(ffn.width);
  for (size_t i = 0; i < chunks() && of_activations.gram; ++i) {
    activate(i);
    OTR_TRY(add_inputs(gate, &of_activations));
  }
  OTR_ASSIGN(const std::vector<Made> down, compress_window(std::move(of_activations), outer, sink));
  for (size_t i = 0; i < chunks(); ++i) {
    activate(i);
    ffn.add_result(i, down[0], gate);
  }
  return {};
}

Status Compressor::run_dense_ffn(uint32_t layer, const Sink& sink) {
  const uint64_t width = layout_.config.width;
  const size_t tokens = options_.chunk_tokens;
  const FfnLayout& parts = layout_.layers[layer].ffn;
  LeasedVector<float> normed(tokens * width);
  const auto input = [&](size_t i) -> std::span<const float> {
    forward_->ffn_input(layer, chunk(residual_, i, width), normed);
    return normed;
  };
  const auto add_result = [&](size_t i, const Made& down, std::span<const float> activations) {
    float* const residual = chunk(residual_, i, width).data();
    down.multiply(activations, tokens, residual, width, true, *team_);
    forward_->add_bias_of(parts.down, residual, width, tokens);
  };
  return run_ffn({parts, layout_.config.ffn_width, input, add_result}, sink);
}

Status Compressor::run_shared_expert(uint32_t layer, std::span<const float> inputs, const Sink& sink) {
  const uint64_t width = layout_.config.width;
  const size_t tokens = options_.chunk_tokens;
  LeasedVector<float> results(tokens * width);
  const auto input = [&](size_t i) { return inputs.subspan(i * tokens * width, tokens * width); };
  const auto add_result = [&](size_t i, const Made& down, std::span<const float> activations) {
    down.multiply(activations, tokens, results.data(), width, false, *team_);
    forward_->add_shared(layer, results, input(i), chunk(residual_, i, width));
  };
  return run_ffn({layout_.layers[layer].shared, layout_.config.shared_ffn_width, input, add_result}, sink);
}

// All experts are given what the layer's norm makes of the residual before any of them was added to it.
Status Compressor::run_mixture(uint32_t layer, const Sink& sink) {
  LeasedVector<float> inputs(residual_.size());
  forward_->ffn_input(layer, residual_, inputs);
  OTR_ASSIGN(const std::vector<ExpertRows> rows, route_tokens(model_, layer, inputs, *team_));
  if (layout_.config.shared_ffn_width > 0) OTR_TRY(run_shared_expert(layer, inputs, sink));
  ExpertWindow experts(model_, layer, *forward_, inputs, rows, *team_, options_, wishes_);
  ExpertStacks stacks(layout_.config.experts);
  for (uint32_t expert = 0; expert < layout_.config.experts; ++expert) {
    const bool is_there = is_saved();
    OTR_ASSIGN(std::vector<CompressedMatrix> made, is_there ? saved_->window(windows_done_) : experts.compress(expert, plans_));
    experts.add_to(expert, made, residual_);
    if (saved_ != nullptr && !is_there) {
      LeasedVector<std::byte> record;
      for (const CompressedMatrix& one : made) append_matrix_record(one, &record);
      saved_->keep_window(record);
    }
    stacks.add(std::move(made));
    OTR_TRY(next_window());
  }
  return sink_stacks(layer, stacks.finish(), sink);
}

Status Compressor::sink_stacks(uint32_t layer, std::vector<CompressedMatrix> stacks, const Sink& sink) const {
  const FfnLayout& parts = layout_.layers[layer].ffn;
  const uint32_t matrices[] = {parts.gate, parts.up, parts.down};
  for (size_t i = 0; i < stacks.size(); ++i) OTR_TRY(sink(matrices[i], std::move(stacks[i])));
  return {};
}

}  // namespace outrigger
