// KlMeter: how far a model with other matrices is from the model itself, on some chunks of text, in float32.
#ifndef OUTRIGGER_SRC_FORWARD_KL_METER_H_
#define OUTRIGGER_SRC_FORWARD_KL_METER_H_

#include <outrigger/status.h>
#include <outrigger/tokenizer.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "src/forward/float_matrix.h"
#include "src/forward/layer_forward.h"
#include "src/forward/packed_matrix.h"
#include "src/memory/leased_vector.h"
#include "src/model/model_impl.h"

namespace outrigger {

/// Memory: the matrices of a window (of a mixture one expert's) and the head as float32, and for each token its vector once per layer.
/// Threads: one call at a time.
class KlMeter {
 public:
  /// Runs the model itself. `tokens`: whole chunks of `chunk_tokens`. Errors: kIo, kOutOfMemory.
  static Result<std::unique_ptr<KlMeter>> create(const Model::Impl& model, std::vector<Token> tokens, uint32_t chunk_tokens,
                                                 ThreadTeam& team);

  /// Mean over the tokens of KL(model || model with the reader's matrices), in nats. Errors: the reader's; kOutOfMemory.
  Result<double> measure(const MatrixReader& reader);
  /// The same where `reader`, of the layers before `first_layer`, says what the reader of the last call of begin() did. Precondition: there
  /// was one.
  Result<double> measure_from(const MatrixReader& reader, uint32_t first_layer);
  /// measure(), and keeps the layers' inputs for measure_from().
  Result<double> begin(const MatrixReader& reader);

 private:
  KlMeter(const Model::Impl& model, std::vector<Token> tokens, uint32_t chunk_tokens, ThreadTeam& team);
  Status run_layers(const MatrixReader& reader, uint32_t first_layer, bool keeps);
  Result<double> distance();
  Status run_layer(const MatrixReader& reader, uint32_t layer);
  Status run_attention(const MatrixReader& reader, uint32_t layer);
  Status run_dense_ffn(const MatrixReader& reader, uint32_t layer);
  Status run_mixture(const MatrixReader& reader, uint32_t layer);
  Status run_shared_expert(const MatrixReader& reader, uint32_t layer, std::span<const float> inputs);
  Result<PackedMatrix> packed(const MatrixReader& reader, MatrixIndex part) const;
  size_t chunks() const { return tokens_.size() / chunk_tokens_; }
  std::span<float> chunk(size_t i) {
    const size_t floats = chunk_tokens_ * layout_.config.width;
    return std::span(residual_).subspan(i * floats, floats);
  }
  LeasedVector<float> normed() const;

  const Model::Impl& model_;
  const ModelLayout& layout_;
  const std::vector<Token> tokens_;
  const uint32_t chunk_tokens_;
  ThreadTeam& team_;
  LeasedVector<float> fixed_;
  std::optional<LayerForward> forward_;
  std::optional<PackedMatrix> head_;
  LeasedVector<float> wanted_;               // [tokens, width]: the model's own input of the head
  LeasedVector<float> residual_;             // [tokens, width]
  std::vector<LeasedVector<float>> before_;  // per layer its input, of the last call of begin()
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_FORWARD_KL_METER_H_
