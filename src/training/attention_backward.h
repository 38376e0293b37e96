// AttentionBackward: what gradients become on their way back through causal attention.
#ifndef OUTRIGGER_SRC_TRAINING_ATTENTION_BACKWARD_H_
#define OUTRIGGER_SRC_TRAINING_ATTENTION_BACKWARD_H_

#include <cstddef>
#include <vector>

#include "src/forward/packed_matrix.h"

namespace outrigger {

/// Threads: one call at a time. Memory: 3 * tokens^2 floats a thread, and twice the queries' size.
class AttentionBackward {
 public:
  /// Head h reads kv head h / (heads / kv_heads), scores are scaled by 1 / sqrt(head_dim). Throws std::bad_alloc.
  AttentionBackward(size_t tokens, size_t heads, size_t kv_heads, size_t head_dim, ThreadTeam& team);

  /// For a text that begins at position 0. `qkv` [tokens, (heads + 2 kv_heads) head_dim]: queries and keys after RoPE, values; `attended`
  /// and its gradient [tokens, heads head_dim]. Sets `qkv_gradient`, as qkv is.
  void run(const float* qkv, const float* attended, const float* attended_gradient, float* qkv_gradient);

 private:
  /// Of one thread.
  struct Scratch {
    PackedMatrix packed;
    LeasedVector<float> weights, gradient;  ///< [tokens, tokens]
    LeasedVector<float> turned;             ///< [head_dim, tokens]
  };
  void run_head(size_t head, const float* qkv, const float* attended, const float* attended_gradient, float* qkv_gradient,
                Scratch& scratch);
  void add_up_kv_head(size_t kv_head, float* qkv_gradient) const;
  size_t width() const { return (heads_ + 2 * kv_heads_) * head_dim_; }

  const size_t tokens_, heads_, kv_heads_, head_dim_;
  ThreadTeam& team_;
  std::vector<Scratch> scratch_;
  LeasedVector<float> key_gradients_, value_gradients_;  ///< [heads, head_dim, tokens]: what each query's head makes of its keys and values
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_TRAINING_ATTENTION_BACKWARD_H_
