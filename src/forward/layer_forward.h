// LayerForward: what lies between the products of a layer, for a chunk of calibration tokens, in float32.
#ifndef OUTRIGGER_SRC_FORWARD_LAYER_FORWARD_H_
#define OUTRIGGER_SRC_FORWARD_LAYER_FORWARD_H_

#include <cstddef>
#include <span>
#include <vector>

#include "src/base/thread_team.h"
#include "src/memory/leased_vector.h"
#include "src/model/layout.h"

namespace outrigger {

/// Chunks are texts of their own: each begins at position 0. All matrices are row-major, a token a row.
/// Threads: one call at a time.
class LayerForward {
 public:
  /// `fixed`: the layout's fixed tensors; both must outlive the object. For chunks of up to `chunk_tokens`. Throws std::bad_alloc.
  LayerForward(const ModelLayout& layout, const float* fixed, size_t chunk_tokens, ThreadTeam& team);

  /// dst [tokens, width] = the layer's norm of `residual`, before attention or before its feed-forward part.
  void attention_input(uint32_t layer, std::span<const float> residual, std::span<float> dst) const;
  void ffn_input(uint32_t layer, std::span<const float> residual, std::span<float> dst) const;
  /// dst [tokens, attention_width] = attention of `qkv` [tokens, attention_width + 2 kv_width], biases not yet added; `qkv` is used up.
  void attention(uint32_t layer, std::span<float> qkv, std::span<float> dst);
  /// gate [count] = silu(gate) * up.
  void activation(std::span<float> gate, std::span<const float> up) const;
  /// residual [tokens, width] += what a token takes of the shared expert's `results`, by its `input`. Precondition: the model has one.
  void add_shared(uint32_t layer, std::span<const float> results, std::span<const float> input, std::span<float> residual) const;
  /// rows [tokens, width of the matrix] += the matrix's bias, if it has one.
  void add_bias_of(uint32_t matrix, float* rows, size_t stride, size_t tokens) const;

 private:
  void norm(uint64_t weight, std::span<const float> residual, std::span<float> dst) const;
  void norm_heads(uint32_t layer, std::span<float> qkv) const;

  const ModelLayout& layout_;
  const ModelConfig& config_;
  const float* const fixed_;
  ThreadTeam& team_;
  size_t capacity_;
  LeasedVector<float> cos_sin_;              // [chunk_tokens, rope_dim]
  LeasedVector<std::byte> cache_, scratch_;  // keys, then values, of one layer and one chunk; a part for each thread
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_FORWARD_LAYER_FORWARD_H_
