// What both ways of training branches are given: checked branches, and a text cut into pieces.
#ifndef OUTRIGGER_SRC_TRAINING_POLISH_TASK_H_
#define OUTRIGGER_SRC_TRAINING_POLISH_TASK_H_

#include <outrigger/status.h>
#include <outrigger/tokenizer.h>

#include <cstddef>
#include <span>
#include <vector>

#include "src/model/layout.h"
#include "src/training/polish_options.h"
#include "src/training/polish_pieces.h"

namespace outrigger {

struct PolishTask {
  std::vector<Piece> pieces;  ///< those held out first
  size_t piece_tokens = 0;    ///< of each
  size_t held_out = 0;        ///< so many of the pieces
  std::vector<size_t> steps;  ///< of each step its piece
};

/// Tokens of a piece. Preconditions: options are valid.
size_t piece_tokens(const ModelConfig& config, uint32_t chunk_tokens, const PolishOptions& options);

/// `tokens`, which must outlive the task: whole chunks of `chunk_tokens`.
/// Errors: kInvalidArgument for options, tokens outside the vocabulary, fewer chunks than are held out and one. Throws std::bad_alloc.
Result<PolishTask> make_polish_task(const ModelLayout& layout, std::span<const Token> tokens, uint32_t chunk_tokens,
                                    const PolishOptions& options);

/// kInvalidArgument for branches whose sizes are not their matrix's or that are no numbers, and for two of one matrix.
Status check_branches(const ModelLayout& layout, std::span<const TrainedBranch> branches);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_TRAINING_POLISH_TASK_H_
