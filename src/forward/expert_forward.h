// ExpertForward: what the experts of a mixture make of a layer's tokens, in float32.
#ifndef OUTRIGGER_SRC_FORWARD_EXPERT_FORWARD_H_
#define OUTRIGGER_SRC_FORWARD_EXPERT_FORWARD_H_

#include <outrigger/status.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "src/base/thread_team.h"
#include "src/forward/layer_forward.h"
#include "src/forward/packed_matrix.h"
#include "src/memory/leased_vector.h"
#include "src/model/model_impl.h"

namespace outrigger {

/// Tokens of a layer that take an expert, ascending, and what its result for each is multiplied with.
struct ExpertRows {
  LeasedVector<uint32_t> tokens;
  LeasedVector<float> weights;
};

/// By expert, who takes it: what the layer's router, as it is in the file, says of `inputs` [tokens, width], chosen by the engine's own
/// routine. Errors: kIo. Throws std::bad_alloc.
Result<std::vector<ExpertRows>> route_tokens(const Model::Impl& model, uint32_t layer, std::span<const float> inputs, ThreadTeam& team);

/// An expert's matrices, ready to be multiplied with.
struct ExpertMatrices {
  PackedMatrix gate, up, down;
};

/// Adds to dst [rows, the matrix's rows] what corrects a matrix of an expert for `src` [rows, its columns]; `weights` [rows]: what each
/// row's token takes of the expert's result. Empty: nothing does.
using ExpertCorrection = std::function<void(std::span<const float> src, std::span<const float> weights, float* dst)>;

struct ExpertCorrections {
  ExpertCorrection gate, up, down;
};

/// Experts of one layer. Rows are taken some at a time, so that memory does not grow with the tokens of an expert. Threads: one call at a
/// time.
class ExpertForward {
 public:
  /// `inputs` [tokens, width]: the layer's normed rows. All must outlive the object.
  ExpertForward(const ModelConfig& config, const LayerForward& forward, std::span<const float> inputs, ThreadTeam& team)
      : config_(config), forward_(forward), inputs_(inputs), team_(team) {}

  static constexpr size_t kMostRows = 512;  // at a time: products are at their best rate, and no chunk of calibration is usually longer

  size_t tokens() const { return inputs_.size() / config_.width; }
  /// [tokens, width]
  std::span<const float> inputs() const { return inputs_; }
  /// The rows of `tokens`, one after the other; valid until the next call.
  std::span<const float> gather(std::span<const uint32_t> tokens);
  /// silu(gate x) * (up x) of `rows`, [rows, expert_ffn_width]; valid until the next call. `weights` [rows] are for the corrections alone.
  /// Precondition: at most kMostRows.
  std::span<const float> activate(const PackedMatrix& gate, const PackedMatrix& up, std::span<const float> rows,
                                  const ExpertCorrections& corrections = {}, std::span<const float> weights = {});
  /// residual [tokens, width] += weight * result, of the expert's tokens.
  void add_expert(const ExpertMatrices& matrices, const ExpertRows& rows, std::span<float> residual,
                  const ExpertCorrections& corrections = {});

 private:
  const ModelConfig& config_;
  const LayerForward& forward_;
  const std::span<const float> inputs_;
  ThreadTeam& team_;
  LeasedVector<float> rows_, gate_, up_, results_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_FORWARD_EXPERT_FORWARD_H_
