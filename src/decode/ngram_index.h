// NgramIndex: where the last tokens of a text stood in it before.
#ifndef OUTRIGGER_SRC_DECODE_NGRAM_INDEX_H_
#define OUTRIGGER_SRC_DECODE_NGRAM_INDEX_H_

#include <outrigger/tokenizer.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace outrigger {

/// An index of all pairs of neighbours in a text that only grows: a table of the latest place of each, and from each place to the one
/// before it. Memory: 12 to 20 bytes a token of capacity. Cost: some ns a token that is added, some us a match.
class NgramIndex {
 public:
  /// Shorter matches are accepted too seldom to pay.
  static constexpr size_t kLeastMatch = 2;
  /// Longer ones say no more, and a text that repeats itself would be compared with all of itself.
  static constexpr size_t kMostMatch = 16;
  /// Places looked at: among the latest of a frequent pair is a long match, if there is one at all.
  static constexpr size_t kMostPlaces = 64;

  /// For texts of up to so many tokens.
  explicit NgramIndex(size_t capacity_tokens);

  struct Match {
    size_t next = 0;  ///< of the token that followed the match
    size_t length =
        0;  ///< tokens in front of `next` that equal the text's last ones, kMostMatch or more counted as kMostMatch; 0: none was found
  };
  /// The longest match of the text's end with an earlier part of it, the latest of equally long ones. `text` begins with that of the call
  /// before.
  Match find(std::span<const Token> text);
  /// The same of those that went on with another token than `first`, which is what find() said of this text.
  Match find_other(std::span<const Token> text, const Match& first) const;

 private:
  size_t bucket(Token first, Token second) const;
  void add(std::span<const Token> text, size_t next);
  Match longest(std::span<const Token> text, const Match* but) const;

  static constexpr uint32_t kNone = UINT32_MAX;
  std::vector<uint32_t> latest_;  ///< by bucket: the place behind its pair
  std::vector<uint32_t> before_;  ///< by place: the one before it in the same bucket
  uint32_t shift_ = 0;
  size_t added_ = kLeastMatch;  ///< the next place to add
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DECODE_NGRAM_INDEX_H_
