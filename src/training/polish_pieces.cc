// Pieces: chunks in strides, so that texts that stand together do not follow each other.
#include "src/training/polish_pieces.h"

#include <algorithm>
#include <numeric>

namespace outrigger {
namespace {

// About the golden section of `count`, and without a common divisor, so that steps of it come to all.
size_t stride_through(size_t count) {
  size_t stride = std::max<size_t>(1, count * 5 / 8);
  while (std::gcd(stride, count) != 1) ++stride;
  return stride;
}

}  // namespace

PolishPieces choose_pieces(size_t chunks, size_t chunk_tokens, size_t piece_tokens, size_t held_out, size_t steps) {
  PolishPieces pieces;
  std::vector<bool> is_held_out(chunks);
  for (size_t i = 0; i < held_out; ++i) {
    const size_t chunk = (2 * i + 1) * chunks / (2 * held_out);
    is_held_out[chunk] = true;
    pieces.held_out.push_back(chunk * chunk_tokens);
  }
  std::vector<size_t> others;
  for (size_t chunk = 0; chunk < chunks; ++chunk) {
    if (!is_held_out[chunk]) others.push_back(chunk);
  }
  const size_t stride = stride_through(others.size()), places = chunk_tokens - piece_tokens + 1;
  for (size_t step = 0; step < steps; ++step) {
    // Round after round the piece begins where the one before ended, as far as there is room.
    const size_t round = step / others.size(), begin = round * piece_tokens % places;
    pieces.steps.push_back(others[step * stride % others.size()] * chunk_tokens + begin);
  }
  return pieces;
}

}  // namespace outrigger
