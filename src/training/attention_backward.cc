// AttentionBackward: the weights of a head are computed again, all at once.
#include "src/training/attention_backward.h"

#include <algorithm>
#include <cmath>

namespace outrigger {
namespace {

// scores [tokens, tokens], of which a row's first t + 1 count, become weights; the others 0.
void softmax_rows(float* scores, size_t tokens, float scale) {
  for (size_t t = 0; t < tokens; ++t) {
    float* const row = scores + t * tokens;
    const float most = *std::max_element(row, row + t + 1);
    float sum = 0;
    for (size_t s = 0; s <= t; ++s) sum += row[s] = std::exp((row[s] - most) * scale);
    for (size_t s = 0; s <= t; ++s) row[s] /= sum;
    std::fill(row + t + 1, row + tokens, 0.0f);
  }
}

}  // namespace

AttentionBackward::AttentionBackward(size_t tokens, size_t heads, size_t kv_heads, size_t head_dim, ThreadTeam& team)
    : tokens_(tokens),
      heads_(heads),
      kv_heads_(kv_heads),
      head_dim_(head_dim),
      team_(team),
      scratch_(std::min(team.threads(), heads)),
      key_gradients_(heads * head_dim * tokens),
      value_gradients_(heads * head_dim * tokens) {
  for (Scratch& scratch : scratch_) {
    const size_t most = std::max(tokens, head_dim);
    scratch.packed.reserve(most, most);
    scratch.weights.resize(tokens * tokens);
    scratch.gradient.resize(tokens * tokens);
    scratch.turned.resize(head_dim * tokens);
  }
}

void AttentionBackward::run_head(size_t head, const float* qkv, const float* attended, const float* attended_gradient, float* qkv_gradient,
                                 Scratch& scratch) {
  const size_t n = tokens_, d = head_dim_, kv_head = head / (heads_ / kv_heads_), out_stride = heads_ * d;
  const FloatRows queries{qkv + head * d, width()}, keys{qkv + (heads_ + kv_head) * d, width()},
      values{qkv + (heads_ + kv_heads_ + kv_head) * d, width()};
  const FloatRows outputs{attended + head * d, out_stride}, gradients{attended_gradient + head * d, out_stride};
  const float scale = 1 / std::sqrt(static_cast<float>(d));
  PackedMatrix& packed = scratch.packed;

  packed.pack(keys, n, d, nullptr);
  packed.multiply(queries, n, scratch.weights.data(), n, false, nullptr);
  softmax_rows(scratch.weights.data(), n, scale);
  transpose(gradients, n, d, scratch.turned.data());
  packed.pack_transposed({scratch.weights.data(), n}, n, n, nullptr);
  packed.multiply({scratch.turned.data(), n}, d, value_gradients_.data() + head * d * n, n, false, nullptr);

  packed.pack(values, n, d, nullptr);
  packed.multiply(gradients, n, scratch.gradient.data(), n, false, nullptr);
  for (size_t t = 0; t < n; ++t) {
    // The weights of a row add up to 1: what all of them gain together is taken off.
    float common = 0;
    for (size_t i = 0; i < d; ++i) common += outputs.data[t * out_stride + i] * gradients.data[t * out_stride + i];
    float *const row = scratch.gradient.data() + t * n, *const weights = scratch.weights.data() + t * n;
    for (size_t s = 0; s < n; ++s) row[s] = weights[s] * (row[s] - common) * scale;
  }
  packed.pack_transposed(keys, d, n, nullptr);
  packed.multiply({scratch.gradient.data(), n}, n, qkv_gradient + head * d, width(), false, nullptr);
  transpose(queries, n, d, scratch.turned.data());
  packed.pack_transposed({scratch.gradient.data(), n}, n, n, nullptr);
  packed.multiply({scratch.turned.data(), n}, d, key_gradients_.data() + head * d * n, n, false, nullptr);
}

void AttentionBackward::add_up_kv_head(size_t kv_head, float* qkv_gradient) const {
  const size_t group = heads_ / kv_heads_, d = head_dim_;
  for (const bool is_value : {false, true}) {
    const float* const parts = (is_value ? value_gradients_ : key_gradients_).data() + kv_head * group * d * tokens_;
    float* const dst = qkv_gradient + (heads_ + (is_value ? kv_heads_ : 0) + kv_head) * d;
    for (size_t t = 0; t < tokens_; ++t) {
      for (size_t i = 0; i < d; ++i) {
        float sum = 0;
        for (size_t h = 0; h < group; ++h) sum += parts[(h * d + i) * tokens_ + t];
        dst[t * width() + i] = sum;
      }
    }
  }
}

void AttentionBackward::run(const float* qkv, const float* attended, const float* attended_gradient, float* qkv_gradient) {
  team_.run([&](const TeamMember& member) {
    if (member.index() >= scratch_.size()) return;
    for (size_t head = member.index(); head < heads_; head += scratch_.size()) {
      run_head(head, qkv, attended, attended_gradient, qkv_gradient, scratch_[member.index()]);
    }
  });
  team_.run([&](const TeamMember& member) {
    for (size_t kv_head = member.index(); kv_head < kv_heads_; kv_head += member.count()) add_up_kv_head(kv_head, qkv_gradient);
  });
}

}  // namespace outrigger
