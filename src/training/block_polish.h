// polish_blocks: branches that are trained a layer at a time, for models of which only one layer fits in memory as float32.
#ifndef OUTRIGGER_SRC_TRAINING_BLOCK_POLISH_H_
#define OUTRIGGER_SRC_TRAINING_BLOCK_POLISH_H_

#include <outrigger/status.h>
#include <outrigger/tokenizer.h>

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "src/base/thread_team.h"
#include "src/forward/float_matrix.h"
#include "src/model/model_impl.h"
#include "src/training/backbone_pupils.h"
#include "src/training/polish_options.h"

namespace outrigger {

/// PolishOptions::learning_rate: four times what training end to end takes. Of a model of 135 million weights at two bits with branches of
/// rank 32, 50 steps at 6e-4, 2.4e-3 and 7.2e-3 left 0.0220, 0.0199 and 0.0196 of 0.0257 in the first layer, and 0.0234, 0.0208 and 0.0210
/// in the second.
constexpr float kBlockLearningRate = 2.4e-3f;

/// The same of scales and norms, twice what training end to end takes: 2e-3 and 6e-3 left 0.734 and 0.689 of 0.961 on held-out text like
/// the one that is trained on, 0.809 and 0.760 of 1.053 on the rest of its book, but 1.99 and 2.02 of 2.39 on another.
constexpr float kBlockScaleRate = 4e-3f;

/// Where what is trained of a layer comes from, and where it goes that is better. Each layer is asked for once, in order.
struct BlockParts {
  std::function<Result<std::vector<TrainedBranch>>(uint32_t layer)> read;
  /// As they are behind the rounding. What it was given is of use only if the report says that all of it is kept.
  std::function<Status(std::vector<TrainedBranch> trained)> keep;
  /// Of the backbone; both empty: it is frozen, and the norms with it.
  std::function<Result<std::vector<MatrixCodes>>(uint32_t layer)> read_codes;
  std::function<Status(TrainedBackbone trained)> keep_backbone;
};

/// Trains the factors of one layer's branches after the other by steps of Adam on what the layer's output lacks (block_loss.h) of the
/// model's own, the input being what the layers before it, compressed and trained already, make of the text: so a layer also makes up for
/// them. A layer's new branches are kept if that becomes smaller on the held-out pieces; all of them, if in the end the whole model is
/// nearer to `model` on these. Of a KL of 0.639 there, 50 steps left 0.435; wanting what the model's own layer makes of the same input,
/// 0.479. With 12 steps it was 0.628 and 0.588: making up for others takes more text. `student` gives the backbone's matrices, those of a
/// layer once; `tokens` and pieces are as polish_branches() has them, each layer taking `options.steps`.
///
/// The same arguments give the same bits, whatever the number of threads. Memory: block_polish_bytes(). Cost: that of polish_branches()
/// without what the head takes there, and two passes over the pieces. Errors: those of polish_branches(), and of `parts`. Precondition:
/// the layout of a dense model.
/// @source BRECQ (arXiv 2102.05426) fits the rounding of a block of layers to the block's output.
Result<PolishReport> polish_blocks(const Model::Impl& model, const MatrixReader& student, std::span<const Token> tokens,
                                   uint32_t chunk_tokens, const PolishOptions& options, ThreadTeam& team, const PolishWatch& watch,
                                   const BlockParts& parts);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_TRAINING_BLOCK_POLISH_H_
