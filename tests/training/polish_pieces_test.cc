// Pieces of a text for training branches: who has which.
#include "src/training/polish_pieces.h"

#include <algorithm>

#include "tests/support/catch.h"

namespace outrigger {
namespace {

TEST_CASE("choose_pieces: what is held out is in no step, every other chunk has its turn, and rounds see other parts") {
  for (const size_t chunks : {2, 3, 5, 16, 33}) {
    for (const size_t held_out : {size_t{1}, size_t{2}, size_t{4}}) {
      if (held_out >= chunks) continue;
      CAPTURE(chunks, held_out);
      const size_t others = chunks - held_out;
      const PolishPieces pieces = choose_pieces(chunks, 512, 320, held_out, 2 * others);
      std::vector<int> uses(chunks);
      std::vector<size_t> first_begin(chunks);
      for (size_t i = 0; i < pieces.steps.size(); ++i) {
        const size_t chunk = pieces.steps[i] / 512, begin = pieces.steps[i] % 512;
        CHECK(begin + 320 <= 512);
        if (i < others) first_begin[chunk] = begin;
        if (i >= others) CHECK(begin != first_begin[chunk]);
        ++uses[chunk];
      }
      REQUIRE(pieces.held_out.size() == held_out);
      for (const size_t place : pieces.held_out) {
        CHECK(place % 512 == 0);
        CHECK(uses[place / 512] == 0);
      }
      CHECK(static_cast<size_t>(std::count(uses.begin(), uses.end(), 2)) == others);
    }
  }
  CHECK(choose_pieces(2, 100, 100, 1, 3).steps == std::vector<size_t>(3, choose_pieces(2, 100, 100, 1, 1).steps[0]));
}

}  // namespace
}  // namespace outrigger
