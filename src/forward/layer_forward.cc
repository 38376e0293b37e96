// LayerForward: the engine's own kernels, a chunk at a time.
#include "src/forward/layer_forward.h"

#include <cmath>

#include "src/kernels/add_bias.h"
#include "src/kernels/append_kv.h"
#include "src/kernels/attention.h"
#include "src/kernels/combine_experts.h"
#include "src/kernels/kv_layout.h"
#include "src/kernels/rms_norm.h"
#include "src/kernels/rope.h"
#include "src/kernels/silu_mul.h"
#include "src/model/rope_angles.h"

namespace outrigger {
namespace {

constexpr size_t kAlignment = 64;

std::byte* aligned(LeasedVector<std::byte>& memory) {
  const auto address = reinterpret_cast<uintptr_t>(memory.data());
  return memory.data() + (kAlignment - address % kAlignment) % kAlignment;
}

}  // namespace

LayerForward::LayerForward(const ModelLayout& layout, const float* fixed, size_t chunk_tokens, ThreadTeam& team)
    : layout_(layout),
      config_(layout.config),
      fixed_(fixed),
      team_(team),
      capacity_(kv_positions(chunk_tokens)),
      cos_sin_(chunk_tokens * layout.config.rope_dim) {
  const RopeAngles angles(layout, fixed);
  for (size_t position = 0; position < chunk_tokens; ++position) angles.fill(position, cos_sin_.data() + position * config_.rope_dim);
  cache_.resize(2 * capacity_ * config_.kv_width() * sizeof(float) + kAlignment);
  scratch_.resize(team.threads() * attention_scratch_bytes(config_.head_dim) + kAlignment);
}

void LayerForward::norm(uint64_t weight, std::span<const float> residual, std::span<float> dst) const {
  const size_t tokens = residual.size() / config_.width;
  team_.run([&](const TeamMember& member) {
    size_t begin, end;
    member.share(tokens, 1, &begin, &end);
    if (begin == end) return;
    rms_norm({residual.data() + begin * config_.width, fixed_ + weight, dst.data() + begin * config_.width, end - begin, config_.width,
              config_.norm_epsilon});
  });
}

void LayerForward::attention_input(uint32_t layer, std::span<const float> residual, std::span<float> dst) const {
  norm(layout_.layers[layer].attention_norm, residual, dst);
}

void LayerForward::ffn_input(uint32_t layer, std::span<const float> residual, std::span<float> dst) const {
  norm(layout_.layers[layer].ffn_norm, residual, dst);
}

void LayerForward::add_bias_of(uint32_t matrix, float* rows, size_t stride, size_t tokens) const {
  if (layout_.biases[matrix] == kNoTensor) return;
  add_bias({fixed_ + layout_.biases[matrix], rows, stride, layout_.weights[matrix].rows, tokens});
}

void LayerForward::norm_heads(uint32_t layer, std::span<float> qkv) const {
  const LayerLayout& parts = layout_.layers[layer];
  if (parts.query_norm == kNoTensor) return;
  const uint64_t width = config_.attention_width() + 2 * config_.kv_width();
  for (float* q = qkv.data(); q != qkv.data() + qkv.size(); q += width) {
    float* const k = q + config_.attention_width();
    rms_norm({q, fixed_ + parts.query_norm, q, config_.heads, config_.head_dim, config_.norm_epsilon});
    rms_norm({k, fixed_ + parts.key_norm, k, config_.kv_heads, config_.head_dim, config_.norm_epsilon});
  }
}

void LayerForward::attention(uint32_t layer, std::span<float> qkv, std::span<float> dst) {
  const LayerLayout& parts = layout_.layers[layer];
  const uint64_t q_width = config_.attention_width(), kv_width = config_.kv_width(), width = q_width + 2 * kv_width;
  const size_t tokens = qkv.size() / width;
  add_bias_of(parts.q, qkv.data(), width, tokens);
  add_bias_of(parts.k, qkv.data() + q_width, width, tokens);
  add_bias_of(parts.v, qkv.data() + q_width + kv_width, width, tokens);
  norm_heads(layer, qkv);
  rope({qkv.data(), width, tokens, config_.heads + config_.kv_heads, config_.head_dim, config_.rope_dim, cos_sin_.data(),
        config_.rope_style});
  std::byte *const keys = aligned(cache_), *const values = keys + capacity_ * kv_width * sizeof(float);
  append_kv({qkv.data() + q_width, qkv.data() + q_width + kv_width, width, width, keys, values, tokens, config_.kv_heads, config_.head_dim,
             capacity_, 0, KvType::kF32},
            0, config_.kv_heads);
  team_.run([&](const TeamMember& member) {
    outrigger::attention({qkv.data(), width, keys, values, dst.data(), q_width, tokens, config_.heads, config_.kv_heads, config_.head_dim,
                          capacity_, 0, 1 / std::sqrt(static_cast<float>(config_.head_dim)), aligned(scratch_), KvType::kF32},
                         member);
  });
}

void LayerForward::add_shared(uint32_t layer, std::span<const float> results, std::span<const float> input,
                              std::span<float> residual) const {
  const float* const gate = fixed_ + layout_.layers[layer].shared_gate;
  team_.run([&](const TeamMember& member) {
    size_t begin, end;
    member.share(residual.size() / config_.width, 1, &begin, &end);
    combine_experts({nullptr, nullptr, nullptr, 0, results.data(), input.data(), gate, residual.data(), config_.width}, begin, end);
  });
}

void LayerForward::activation(std::span<float> gate, std::span<const float> up) const {
  team_.run([&](const TeamMember& member) {
    size_t begin, end;
    member.share(gate.size(), 16, &begin, &end);
    if (begin < end) silu_mul({gate.data() + begin, up.data() + begin, gate.data() + begin, end - begin});
  });
}

}  // namespace outrigger
