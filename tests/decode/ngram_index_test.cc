// The n-gram index against a search through the whole text, and what the draft makes of it.
#include "src/decode/ngram_index.h"

#include <random>
#include <vector>

#include "src/decode/ngram_draft.h"
#include "tests/support/engines.h"

namespace outrigger::testing {
namespace {

// The longest match of the text's end, the latest of equally long ones, by looking everywhere.
NgramIndex::Match searched(const std::vector<Token>& text) {
  NgramIndex::Match best;
  for (size_t next = text.size() - 1; next >= 1 && text.size() > 1; --next) {
    size_t length = 0;
    while (length < std::min(next, NgramIndex::kMostMatch) && text[next - 1 - length] == text[text.size() - 1 - length]) ++length;
    if (length >= NgramIndex::kLeastMatch && length > best.length) best = {next, length};
  }
  return best;
}

std::vector<Token> proposed(const std::vector<Token>& text, uint32_t most) {
  NgramDraft source(text.size());
  Draft draft(most, 0);
  must(source.propose(text, most, {}, &draft));
  CHECK(!draft.is_drawn());
  return {draft.tokens().begin(), draft.tokens().end()};
}

TEST_CASE("NgramIndex: finds what a search through the whole text finds, as the text grows") {
  // Of many different tokens, so that no pair is more frequent than the index looks for.
  for (const int alphabet : {12, 40, 400}) {
    CAPTURE(alphabet);
    std::mt19937 random(7);
    std::vector<Token> text;
    NgramIndex index(700);
    while (text.size() < 700) {
      // Now and then a piece of what was there before, so that there are long matches.
      if (text.size() > 20 && random() % 10 == 0) {
        const size_t from = random() % (text.size() - 15);
        for (size_t i = 0; i < 15 && text.size() < 700; ++i) text.push_back(text[from + i]);
      } else {
        text.push_back(static_cast<Token>(random() % alphabet));
      }
      if (random() % 3 == 0) continue;  // several tokens may come at once
      const NgramIndex::Match got = index.find(text), expected = searched(text);
      REQUIRE(got.length == expected.length);
      if (expected.length > 0) REQUIRE(got.next == expected.next);
    }
  }
}

TEST_CASE("NgramIndex: texts that are too short, all different, or beyond its capacity have no match") {
  NgramIndex index(4);
  CHECK(index.find({}).length == 0);
  CHECK(index.find(std::vector<Token>{5}).length == 0);
  CHECK(index.find(std::vector<Token>{5, 5}).length == 0);
  CHECK(index.find(std::vector<Token>{5, 5, 5}).length == 2);
  CHECK(index.find(std::vector<Token>{5, 5, 5, 6}).length == 0);
  CHECK(index.find(std::vector<Token>{5, 5, 5, 6, 5, 5}).length == 0);
}

TEST_CASE("NgramIndex: of a text that is one token over and over it looks at a bounded number of places") {
  const std::vector<Token> text(100000, 3);
  NgramIndex index(text.size());
  const NgramIndex::Match match = index.find(text);
  CHECK(match.length == NgramIndex::kMostMatch);
  CHECK(match.next == text.size() - 1);
}

TEST_CASE("NgramDraft: proposes what followed, and goes round a period that reaches the end") {
  CHECK(proposed({1, 2, 3, 4, 9, 1, 2}, 3) == std::vector<Token>{3, 4, 9});
  CHECK(proposed({1, 2, 3, 1, 2}, 5) == std::vector<Token>{3, 1, 2, 3, 1});
  CHECK(proposed({7, 7, 7}, 4) == std::vector<Token>{7, 7, 7, 7});
  CHECK(proposed({1, 2, 3}, 4).empty());
  // Of two continuations that of the longer match: 5 1 2 rather than the later 6 1 2.
  CHECK(proposed({5, 1, 2, 8, 6, 1, 2, 9, 5, 1, 2}, 1) == std::vector<Token>{8});
  CHECK(proposed({6, 1, 2, 8, 6, 1, 2, 9, 6, 1, 2}, 1) == std::vector<Token>{9});
}

TEST_CASE("NgramDraft: a tree has what followed the longest match, and the longest of those that went on otherwise") {
  const auto tree = [](const std::vector<Token>& text, const DraftSize& size) {
    NgramDraft source(text.size() + 1);
    Draft draft(31, 0);
    must(source.propose_tree(text, size, {}, &draft));
    std::vector<std::vector<Token>> paths;
    for (size_t node = 1; node < draft.tree().size(); ++node) {
      std::vector<Token> path;
      for (size_t depth = 1; depth <= draft.tree().depth(node); ++depth) path.push_back(draft.token(draft.tree().on_path(node, depth)));
      paths.push_back(path);
    }
    return paths;
  };
  using Paths = std::vector<std::vector<Token>>;
  // 5 1 2 was followed by 8, and 1 2 alone by 9, twice: the later place counts.
  const std::vector<Token> text = {5, 1, 2, 8, 1, 2, 9, 3, 1, 2, 9, 4, 5, 1, 2};
  CHECK(tree(text, {4, 2, 2, 9}) == Paths{{8}, {9}, {8, 1}, {9, 4}});
  CHECK(tree(text, {3, 2, 2, 9}) == Paths{{8}, {9}, {8, 1}});
  CHECK(tree(text, {16, 8, 2, 9}).size() == 16);
  // Only one continuation is known: a chain, as long as there is room.
  CHECK(tree({1, 2, 3, 4, 9, 1, 2}, {6, 3, 2, 4}) == Paths{{3}, {3, 4}, {3, 4, 9}, {3, 4, 9, 1}});
  CHECK(tree({7, 7, 7}, {2, 1, 2, 9}) == Paths{{7}, {7, 7}});
  CHECK(tree({1, 2, 3}, {4, 2, 2, 9}).empty());
}

}  // namespace
}  // namespace outrigger::testing
