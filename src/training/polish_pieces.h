// Which parts of a calibration text train branches, and which say whether they became better.
#ifndef OUTRIGGER_SRC_TRAINING_POLISH_PIECES_H_
#define OUTRIGGER_SRC_TRAINING_POLISH_PIECES_H_

#include <outrigger/tokenizer.h>

#include <cstddef>
#include <span>
#include <vector>

namespace outrigger {

/// A text of its own, which begins at position 0.
using Piece = std::span<const Token>;

/// Places in the text, all of pieces of one length, none of which crosses the border of a chunk.
struct PolishPieces {
  std::vector<size_t> held_out;
  std::vector<size_t> steps;  ///< one a step; the same more than once when there are more steps than places
};

/// `chunks` chunks of `chunk_tokens` tokens; a chunk that is held out is in no step. Preconditions: held_out < chunks; 0 < piece_tokens <=
/// chunk_tokens.
PolishPieces choose_pieces(size_t chunks, size_t chunk_tokens, size_t piece_tokens, size_t held_out, size_t steps);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_TRAINING_POLISH_PIECES_H_
