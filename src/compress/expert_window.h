// ExpertWindow: the experts of a layer, compressed one after the other, each by what its own tokens are.
#ifndef OUTRIGGER_SRC_COMPRESS_EXPERT_WINDOW_H_
#define OUTRIGGER_SRC_COMPRESS_EXPERT_WINDOW_H_

#include <outrigger/status.h>

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "src/base/thread_team.h"
#include "src/compress/gram.h"
#include "src/compress/matrix_maker.h"
#include "src/forward/expert_forward.h"
#include "src/forward/packed_matrix.h"
#include "src/memory/leased_vector.h"
#include "src/model/model_impl.h"

namespace outrigger {

/// A router gives some experts few tokens or none, from which nothing about inputs can be told. So each expert's Gram matrix is that of its
/// own tokens and of the layer's, these as if pooled_tokens() of them had passed: for gate and up the mean over all tokens of the layer,
/// for down over some of them, spread evenly, sent through this expert, since elements behind a gate mean something else in every expert.
/// A residual is made where one is planned, and what goes on is corrected by it: thresholds are those of the expert's own tokens, of which
/// each counts with what it takes of the result. Of an expert without tokens they are those of some of the layer's, each taking as much as
/// tokens do on average.
/// Memory: two Gram matrices of the layer's inputs, or one and two of an expert's activations, and what quantising takes: one expert at a
/// time. Threads: one.
class ExpertWindow {
 public:
  /// `inputs` [tokens, width]: the layer's normed rows; `rows`: who takes which expert; of `wishes` the components are not told. All
  /// arguments must outlive the object.
  ExpertWindow(const Model::Impl& model, uint32_t layer, const LayerForward& forward, std::span<const float> inputs,
               std::span<const ExpertRows> rows, ThreadTeam& team, const CompressOptions& options, const SurveyWishes& wishes);

  /// How much the layer's tokens count beside an expert's, for matrices of `columns`: where that many of its own have passed, as much as
  /// these. The mean of n outer products is off by its effective dimension over n, in the mean square and as part of the whole: with fewer
  /// tokens it is more chance than expert. In a model of 135 million weights that dimension, trace^2 / |Gram|^2, is 10 of 576 for inputs of
  /// a feed-forward part (35 at most) and 80 of 1536 behind its gate (270 at most).
  static constexpr uint64_t pooled_tokens(uint64_t columns) { return columns < 8 ? 1 : columns / 8; }

  /// Of gate and up. Throws std::bad_alloc.
  Gram input_gram(uint32_t expert);
  /// Of down, behind these gate and up. `sample`: null, or what is to have the expert's activations too, the layer's where it has no
  /// tokens. `corrections`: of gate and up. Errors: those of the sample. Throws std::bad_alloc.
  Result<Gram> activation_gram(uint32_t expert, const PackedMatrix& gate, const PackedMatrix& up, const ExpertCorrections& corrections = {},
                               InputSample* sample = nullptr);

  /// Gate, up and down; `plans` by matrix of the layout. Errors: kInvalidArgument for weights or inputs that are no numbers, naming the
  /// stack and the expert; kIo; kOutOfMemory. Throws std::bad_alloc.
  Result<std::vector<CompressedMatrix>> compress(uint32_t expert, std::span<const MatrixPlan> plans);
  /// residual [tokens, width] += what the expert, as it was made, gives to its tokens.
  void add_to(uint32_t expert, std::span<const CompressedMatrix> made, std::span<float> residual);

 private:
  /// What an expert's matrices with the same inputs are quantised by.
  struct Statistics {
    LeasedVector<float> diagonal, feedback;
    InputSample sample;
  };
  /// `bits`: of the matrices, the fewest.
  Result<Statistics> statistics(const Gram& gram, InputSample sample, int bits);
  Result<Statistics> input_statistics(uint32_t expert, int bits);
  Result<Statistics> activation_statistics(uint32_t expert, std::span<const CompressedMatrix> gate_and_up, int bits);
  Result<CompressedMatrix> compress_matrix(uint32_t matrix, uint32_t expert, const MatrixPlan& plan, const Statistics& inputs);
  PackedMatrix packed(const CompressedMatrix& made) const;
  /// `count` tokens of the layer, spread evenly, with the weight that tokens' experts have on average.
  ExpertRows spread_rows(size_t count) const;
  /// Calls `take` with activations [some, expert_ffn_width] of some of the rows at a time, and these rows' weights.
  template <typename Take>
  void activations(const ExpertRows& rows, const PackedMatrix& gate, const PackedMatrix& up, const ExpertCorrections& corrections,
                   Take&& take);

  const Model::Impl& model_;
  const ModelLayout& layout_;
  const LayerLayout& parts_;
  const std::span<const ExpertRows> rows_;
  ThreadTeam& team_;
  const size_t group_columns_;
  ExpertForward forward_;
  std::optional<Gram> pool_;  ///< of all tokens' inputs, from the first that asks for it
  const MatrixMaker maker_;
};

/// Puts the experts of a layer together to stacks, in their order. Threads: one.
class ExpertStacks {
 public:
  /// Of so many experts.
  explicit ExpertStacks(uint32_t experts) : experts_(experts) {}

  /// Takes gate, up and down of the next expert.
  void add(std::vector<CompressedMatrix> expert);
  /// The stacks of gate, up and down: rows of all experts one after the other; losses and curves are means over the tokens that took an
  /// expert.
  std::vector<CompressedMatrix> finish();

 private:
  uint32_t experts_;
  std::vector<CompressedMatrix> stacks_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_COMPRESS_EXPERT_WINDOW_H_
