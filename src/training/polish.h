// polish_branches: branches that are trained together, for what the whole model says instead of what each matrix makes of its inputs.
#ifndef OUTRIGGER_SRC_TRAINING_POLISH_H_
#define OUTRIGGER_SRC_TRAINING_POLISH_H_

#include <outrigger/status.h>
#include <outrigger/tokenizer.h>

#include <cstdint>
#include <span>
#include <vector>

#include "src/base/thread_team.h"
#include "src/forward/float_matrix.h"
#include "src/model/model_impl.h"
#include "src/training/backbone_pupils.h"
#include "src/training/polish_options.h"

namespace outrigger {

/// Trains the factors of `branches` by steps of Adam on the divergence of the model with backbone and branches from `model` itself, with
/// everything else frozen, but for what `backbone` names and the norms with it; null: not them either; if
/// it was of no use, or fails, the codes are gone. `student` gives the backbone's
/// matrices, one for each of the layers' in the layout, each asked for once; `tokens` are whole chunks of `chunk_tokens`, and each step
/// takes a piece of one, in a fixed order that comes round to other parts of a chunk when all were used. Factors are those of float32, also
/// with `options.round`: rounded by it they are what the report speaks of. If the held-out pieces did not become better, half of the way
/// that the steps went is tried, and a quarter; if those did not either, or the training ran away, `branches` stay as they are.
///
/// The same arguments give the same bits, whatever the number of threads.
/// Memory, end_to_end_polish_bytes(), for W weights in layers, H in the head and F in factors: 8 (W + H) + 36 F bytes, since backbone and
/// head are there as they are and transposed; 4 bytes for each number that a piece's tokens leave in the layers (3 width + 2 attention + 2
/// kv + 2 ffn widths a layer and token); width * 4 bytes for each token of every piece, and 512 bytes a word of the vocabulary. The model's
/// own matrices are in memory one layer at a time. Cost: a step takes some 2 W + 3 H multiplications a token, what comes before the steps
/// W. For 135 million weights, branches of rank 32 and 50 steps all of it was 1.7 GB, and 220 s of a processor's time. Errors:
/// kInvalidArgument for options, branches whose sizes are not their matrix's or that are no numbers, two of one matrix, tokens outside the
/// vocabulary, fewer chunks than are held out and one, weights (with the tensor's name) or outputs that are no numbers; those of `student`
/// and `watch`; kIo; kOutOfMemory. Precondition: the layout of a dense model.
/// @source HCInfer (arXiv 2605.05819) fits branches to matrices and leaves them so; RILQ (arXiv 2412.01129) trains them by the model's
/// loss.
Result<PolishReport> polish_branches(const Model::Impl& model, const MatrixReader& student, std::span<const Token> tokens,
                                     uint32_t chunk_tokens, const PolishOptions& options, ThreadTeam& team, const PolishWatch& watch,
                                     std::vector<TrainedBranch>* branches, TrainedBackbone* backbone = nullptr);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_TRAINING_POLISH_H_
