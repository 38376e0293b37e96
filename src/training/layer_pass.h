// LayerPass: a dense layer with branches, forward and back.
#ifndef OUTRIGGER_SRC_TRAINING_LAYER_PASS_H_
#define OUTRIGGER_SRC_TRAINING_LAYER_PASS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "src/base/thread_team.h"
#include "src/forward/dense_layer.h"
#include "src/forward/layer_forward.h"
#include "src/model/layout.h"
#include "src/training/attention_backward.h"
#include "src/training/branched_matrix.h"
#include "src/training/elementwise_backward.h"

namespace outrigger {

struct LayerMatrices {
  BranchedMatrix q, k, v, output, gate, up, down;

  /// In the order of matrices_of().
  std::array<BranchedMatrix*, 7> all() { return {&q, &k, &v, &output, &gate, &up, &down}; }
};

/// What a layer leaves for its way back; all [tokens, ...]. What is cheap to compute again is left out.
struct LayerTape {
  LeasedVector<float> residual;  ///< what comes in
  LeasedVector<float> unnormed;  ///< queries, keys and values with biases, before the norms of heads; empty where there are none
  LeasedVector<float> qkv;       ///< as attention reads them
  LeasedVector<float> attended;
  LeasedVector<float> middle;    ///< the residual after attention
  LeasedVector<float> gate, up;  ///< with biases
};

/// Threads: one call at a time. Calls may throw std::bad_alloc.
class LayerPass {
 public:
  /// For texts of `tokens` tokens that begin at position 0. `layout`, `fixed` (its fixed tensors) and `team` must outlive the object.
  /// Throws std::bad_alloc.
  LayerPass(const ModelLayout& layout, const float* fixed, size_t tokens, ThreadTeam& team);

  /// next [tokens, width] = the layer of tape->residual, and fills the tape.
  void forward(uint32_t layer, const LayerMatrices& matrices, LayerTape* tape, std::span<float> next);

  /// `gradient` [tokens, width], of what forward() made, becomes that of the tape's residual; sets the gradients of all factors, and in
  /// `fixed_gradients`, parallel to the fixed tensors, those of the layer's norms; null: not asked for.
  void backward(uint32_t layer, LayerMatrices& matrices, const LayerTape& tape, std::span<float> gradient,
                float* fixed_gradients = nullptr);

 private:
  void ffn_backward(uint32_t layer, LayerMatrices& matrices, const LayerTape& tape, std::span<float> gradient);
  void attention_backward(uint32_t layer, LayerMatrices& matrices, const LayerTape& tape, std::span<float> gradient);
  void turn_back(uint32_t layer, const LayerTape& tape);
  void norm_backward(const RmsNormBackwardArgs& args, uint64_t norm);
  uint64_t qkv_width() const { return config_.attention_width() + 2 * config_.kv_width(); }

  const ModelLayout& layout_;
  const ModelConfig& config_;
  const float* const fixed_;
  const size_t tokens_;
  ThreadTeam& team_;
  LayerForward forward_;
  BranchScratch scratch_;
  LeasedVector<float> back_cos_sin_;  // of the opposite angles
  LeasedVector<float> input_, input_gradient_, activated_;
  LeasedVector<float> activated_gradient_, up_gradient_, attended_gradient_, qkv_gradient_;  // empty before the first way back
  AttentionBackward attention_;
  float* fixed_gradients_ = nullptr;  // of the way back that is under way
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_TRAINING_LAYER_PASS_H_
