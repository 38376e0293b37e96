// Compressor: the layers of a model, one window after the other, each with what the windows before it have become.
#ifndef OUTRIGGER_SRC_COMPRESS_COMPRESSOR_H_
#define OUTRIGGER_SRC_COMPRESS_COMPRESSOR_H_

#include <outrigger/compress.h>

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "src/compress/gram.h"
#include "src/compress/matrix_maker.h"
#include "src/compress/matrix_plan.h"
#include "src/compress/selective_residual.h"
#include "src/forward/layer_forward.h"
#include "src/forward/packed_matrix.h"
#include "src/memory/leased_vector.h"
#include "src/model/model_impl.h"

namespace outrigger {

class SavedWork;

/// Threads: one call at a time.
class Compressor {
 public:
  /// Takes a compressed matrix, an index into the layout's, in the order of a step, as soon as it is made. A stack is one with the rows of
  /// all its experts.
  using Sink = std::function<Status(uint32_t matrix, CompressedMatrix made)>;
  /// Windows that are done, of how many; an error stops.
  using Watch = std::function<Status(uint32_t done, uint32_t all)>;

  /// `tokens`: whole chunks. Preconditions: the model has a layout, of matrices whose rows are whole blocks; options are valid. Errors:
  /// kIo, kOutOfMemory.
  static Result<std::unique_ptr<Compressor>> create(const Model::Impl& model, std::span<const Token> tokens,
                                                    const CompressOptions& options);

  /// Windows that `saved` has of the pass that was begun there are taken from it, those that are made put there.
  void keep_in(SavedWork* saved) { saved_ = saved; }
  /// Each matrix's sink is also told the first components of its residual, up to `most` of them: a multiple of 32.
  void survey_components(uint32_t most) { wishes_.components = most; }
  /// And what shares of its residual's columns restore.
  void survey_columns() { wishes_.columns = true; }
  /// `plans`: by matrix of the layout; must outlive the call.
  /// Errors: those of the sink and the watch; kInvalidArgument for weights or inputs that are no numbers, with the tensor's name; kIo;
  /// kOutOfMemory.
  Status run(std::span<const MatrixPlan> plans, const Sink& sink, const Watch& watch);

 private:
  /// A matrix that was compressed, ready to be multiplied with.
  struct Made {
    uint32_t matrix = 0;
    PackedMatrix values;
    SelectiveResidual residual;

    void multiply(std::span<const float> src, size_t tokens, float* dst, size_t dst_stride, bool adds, ThreadTeam& team) const {
      values.multiply(src, tokens, dst, dst_stride, adds, team);
      if (residual.share > 0) residual.add_to(src, tokens, dst, dst_stride, team);
    }
  };

  /// What a window's matrices are given, on all chunks.
  struct Inputs {
    Inputs(size_t width, size_t group, size_t sampled_rows, bool is_needed) : sample(width, is_needed ? sampled_rows : 0) {
      if (is_needed) gram.emplace(width, group);
    }
    std::optional<Gram> gram;  ///< none for a window that is there already
    InputSample sample;
  };

  Compressor(const Model::Impl& model, const CompressOptions& options) : model_(model), layout_(*model.layout), options_(options) {}
  Status run_attention(const LayerLayout& parts, uint32_t layer, const Sink& sink);
  /// A feed-forward part that every token passes.
  struct Ffn {
    const FfnLayout& parts;
    uint64_t width;
    std::function<std::span<const float>(size_t chunk)> input;  ///< [chunk_tokens, model's width]; valid until the next call
    /// Adds what comes of `activations` [chunk_tokens, width] to the residual.
    std::function<void(size_t chunk, const Made& down, std::span<const float> activations)> add_result;
  };
  Status run_ffn(const Ffn& ffn, const Sink& sink);
  Status run_dense_ffn(uint32_t layer, const Sink& sink);
  Status run_mixture(uint32_t layer, const Sink& sink);
  Status run_shared_expert(uint32_t layer, std::span<const float> inputs, const Sink& sink);
  uint32_t all_windows() const { return layout_.config.layers * windows_of_layer(layout_); }
  bool is_saved() const;
  Status sink_stacks(uint32_t layer, std::vector<CompressedMatrix> stacks, const Sink& sink) const;
  Status take_layer(uint32_t layer, const Sink& sink);
  Result<std::vector<Made>> take_window(std::span<const uint32_t> matrices, const Sink& sink);
  LeasedVector<float> restored_values(const CompressedMatrix& made) const;
  Status add_inputs(std::span<const float> x, Inputs* inputs);
  /// The matrices of a window, whose inputs are known, and given back when they are of no more use.
  Result<std::vector<Made>> compress_window(Inputs inputs, std::span<const uint32_t> matrices, const Sink& sink);
  Status next_window();

  Inputs inputs_of(size_t width) const {
    return Inputs(width, options_.feedback_columns, InputSample::kept_rows(chunks() * options_.chunk_tokens, options_.chunk_tokens),
                  !is_saved());
  }
  size_t chunks() const { return residual_.size() / (options_.chunk_tokens * layout_.config.width); }
  /// Chunk `i` of a matrix of `width` columns.
  std::span<float> chunk(LeasedVector<float>& matrix, size_t i, uint64_t width) const {
    return std::span(matrix).subspan(i * options_.chunk_tokens * width, options_.chunk_tokens * width);
  }

  const Model::Impl& model_;
  const ModelLayout& layout_;
  const CompressOptions& options_;
  std::unique_ptr<ThreadTeam> team_;
  LeasedVector<float> fixed_;
  std::unique_ptr<LayerForward> forward_;
  LeasedVector<float> residual_;  ///< [tokens, width], all chunks
  std::span<const MatrixPlan> plans_;
  SurveyWishes wishes_;
  const Watch* watch_ = nullptr;
  uint32_t windows_done_ = 0;
  SavedWork* saved_ = nullptr;
  uint32_t saved_windows_ = 0;  ///< that were there when the run began
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_COMPRESS_COMPRESSOR_H_
