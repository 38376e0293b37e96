// LayerPass: the way back takes the steps of the way forward in reverse.
#include "src/training/layer_pass.h"

#include <algorithm>

#include "src/kernels/rope.h"
#include "src/model/rope_angles.h"

namespace outrigger {

LayerPass::LayerPass(const ModelLayout& layout, const float* fixed, size_t tokens, ThreadTeam& team)
    : layout_(layout),
      config_(layout.config),
      fixed_(fixed),
      tokens_(tokens),
      team_(team),
      forward_(layout, fixed, tokens, team),
      back_cos_sin_(tokens * layout.config.rope_dim),
      input_(tokens * layout.config.width),
      activated_(tokens * layout.config.ffn_width),
      attention_(tokens, layout.config.heads, layout.config.kv_heads, layout.config.head_dim, team) {
  const RopeAngles angles(layout, fixed);
  for (size_t position = 0; position < tokens; ++position) angles.fill(position, back_cos_sin_.data() + position * config_.rope_dim);
  for (size_t i = 1; i < back_cos_sin_.size(); i += 2) back_cos_sin_[i] = -back_cos_sin_[i];
}

void LayerPass::forward(uint32_t layer, const LayerMatrices& matrices, LayerTape* tape, std::span<float> next) {
  const LayerLayout& parts = layout_.layers[layer];
  const uint64_t width = config_.width, q_width = config_.attention_width(), kv_width = config_.kv_width(), ffn = config_.ffn_width;
  tape->qkv.resize(tokens_ * qkv_width());
  tape->attended.resize(tokens_ * q_width);
  tape->gate.resize(tokens_ * ffn);
  tape->up.resize(tokens_ * ffn);
  const FloatRows input{input_.data(), width};

  forward_.attention_input(layer, tape->residual, input_);
  float* const qkv = tape->qkv.data();
  matrices.q.forward(input, tokens_, qkv, qkv_width(), false, scratch_, team_);
  matrices.k.forward(input, tokens_, qkv + q_width, qkv_width(), false, scratch_, team_);
  matrices.v.forward(input, tokens_, qkv + q_width + kv_width, qkv_width(), false, scratch_, team_);
  if (parts.query_norm != kNoTensor) {
    tape->unnormed = tape->qkv;
    forward_.add_bias_of(parts.q, tape->unnormed.data(), qkv_width(), tokens_);
    forward_.add_bias_of(parts.k, tape->unnormed.data() + q_width, qkv_width(), tokens_);
  }
  forward_.attention(layer, tape->qkv, tape->attended);

  tape->middle = tape->residual;
  matrices.output.forward({tape->attended.data(), q_width}, tokens_, tape->middle.data(), width, true, scratch_, team_);
  forward_.add_bias_of(parts.output, tape->middle.data(), width, tokens_);

  forward_.ffn_input(layer, tape->middle, input_);
  matrices.gate.forward(input, tokens_, tape->gate.data(), ffn, false, scratch_, team_);
  matrices.up.forward(input, tokens_, tape->up.data(), ffn, false, scratch_, team_);
  forward_.add_bias_of(parts.ffn.gate, tape->gate.data(), ffn, tokens_);
  forward_.add_bias_of(parts.ffn.up, tape->up.data(), ffn, tokens_);
  activated_ = tape->gate;
  forward_.activation(activated_, tape->up);
  std::copy(tape->middle.begin(), tape->middle.end(), next.begin());
  matrices.down.forward({activated_.data(), ffn}, tokens_, next.data(), width, true, scratch_, team_);
  forward_.add_bias_of(parts.ffn.down, next.data(), width, tokens_);
}

void LayerPass::backward(uint32_t layer, LayerMatrices& matrices, const LayerTape& tape, std::span<float> gradient,
                         float* fixed_gradients) {
  fixed_gradients_ = fixed_gradients;
  input_gradient_.resize(input_.size());
  ffn_backward(layer, matrices, tape, gradient);
  attention_backward(layer, matrices, tape, gradient);
}

// Weights first: x's gradient may take the place of y's.
void LayerPass::norm_backward(const RmsNormBackwardArgs& args, uint64_t norm) {
  if (fixed_gradients_ != nullptr) rms_norm_weight_backward(args, fixed_gradients_ + norm, team_);
  rms_norm_backward(args, team_);
}

void LayerPass::ffn_backward(uint32_t layer, LayerMatrices& matrices, const LayerTape& tape, std::span<float> gradient) {
  const uint64_t width = config_.width, ffn = config_.ffn_width;
  activated_gradient_.resize(tokens_ * ffn);
  up_gradient_.resize(tokens_ * ffn);
  activated_ = tape.gate;
  forward_.activation(activated_, tape.up);
  matrices.down.backward({activated_.data(), ffn}, {gradient.data(), width}, tokens_, activated_gradient_.data(), false, scratch_, team_);
  silu_mul_backward({tape.gate.data(), tape.up.data(), activated_gradient_.data(), up_gradient_.data(), activated_gradient_.size()}, team_);

  forward_.ffn_input(layer, tape.middle, input_);
  const FloatRows input{input_.data(), width};
  matrices.gate.backward(input, {activated_gradient_.data(), ffn}, tokens_, input_gradient_.data(), false, scratch_, team_);
  matrices.up.backward(input, {up_gradient_.data(), ffn}, tokens_, input_gradient_.data(), true, scratch_, team_);
  const uint64_t norm = layout_.layers[layer].ffn_norm;
  norm_backward(
      {tape.middle.data(), fixed_ + norm, input_gradient_.data(), gradient.data(), tokens_, 1, width, width, config_.norm_epsilon, true},
      norm);
}

void LayerPass::attention_backward(uint32_t layer, LayerMatrices& matrices, const LayerTape& tape, std::span<float> gradient) {
  const uint64_t width = config_.width, q_width = config_.attention_width(), kv_width = config_.kv_width();
  attended_gradient_.resize(tokens_ * q_width);
  qkv_gradient_.resize(tokens_ * qkv_width());
  matrices.output.backward({tape.attended.data(), q_width}, {gradient.data(), width}, tokens_, attended_gradient_.data(), false, scratch_,
                           team_);
  attention_.run(tape.qkv.data(), tape.attended.data(), attended_gradient_.data(), qkv_gradient_.data());
  turn_back(layer, tape);

  forward_.attention_input(layer, tape.residual, input_);
  const FloatRows input{input_.data(), width};
  const float* const qkv = qkv_gradient_.data();
  matrices.q.backward(input, {qkv, qkv_width()}, tokens_, input_gradient_.data(), false, scratch_, team_);
  matrices.k.backward(input, {qkv + q_width, qkv_width()}, tokens_, input_gradient_.data(), true, scratch_, team_);
  matrices.v.backward(input, {qkv + q_width + kv_width, qkv_width()}, tokens_, input_gradient_.data(), true, scratch_, team_);
  const uint64_t norm = layout_.layers[layer].attention_norm;
  norm_backward(
      {tape.residual.data(), fixed_ + norm, input_gradient_.data(), gradient.data(), tokens_, 1, width, width, config_.norm_epsilon, true},
      norm);
}

// Through RoPE, which is a turn and so its own inverse with the angles reversed, and the norms of heads.
void LayerPass::turn_back(uint32_t layer, const LayerTape& tape) {
  const LayerLayout& parts = layout_.layers[layer];
  float* const qkv = qkv_gradient_.data();
  rope({qkv, qkv_width(), tokens_, config_.heads + config_.kv_heads, config_.head_dim, config_.rope_dim, back_cos_sin_.data(),
        config_.rope_style});
  if (parts.query_norm == kNoTensor) return;
  const uint64_t keys = config_.attention_width();
  norm_backward({tape.unnormed.data(), fixed_ + parts.query_norm, qkv, qkv, tokens_, config_.heads, qkv_width(), config_.head_dim,
                 config_.norm_epsilon, false},
                parts.query_norm);
  norm_backward({tape.unnormed.data() + keys, fixed_ + parts.key_norm, qkv + keys, qkv + keys, tokens_, config_.kv_heads, qkv_width(),
                 config_.head_dim, config_.norm_epsilon, false},
                parts.key_norm);
}

}  // namespace outrigger
