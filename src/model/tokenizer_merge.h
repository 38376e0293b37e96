// Merging: the loop that byte-pair encoding and SentencePiece share. Of all neighbours that may join, those of the lowest rank do, the
// leftmost first, until none may.
#ifndef OUTRIGGER_SRC_MODEL_TOKENIZER_MERGE_H_
#define OUTRIGGER_SRC_MODEL_TOKENIZER_MERGE_H_

#include <algorithm>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "src/model/tokenizer_index.h"

namespace outrigger {

/// A stretch of the word being tokenised.
struct MergeSymbol {
  static constexpr uint32_t kNone = 0xffffffff;
  Token token;     ///< -1 if no token has this text
  uint32_t begin;  ///< of its text in the word
  uint32_t bytes;
  uint32_t previous = kNone, next = kNone;
  Merge with_next;  ///< never, for the last symbol and for one that has been swallowed
};

/// The symbols of one word and the candidates to merge. Kept from word to word so that only the longest word allocates.
class Merger {
 public:
  void clear() { symbols_.clear(); }
  void append(Token token, uint32_t begin, uint32_t bytes) {
    const uint32_t index = static_cast<uint32_t>(symbols_.size());
    if (index > 0) symbols_.back().next = index;
    symbols_.push_back({token, begin, bytes, index > 0 ? index - 1 : MergeSymbol::kNone, MergeSymbol::kNone, {}});
  }

  /// `find(left, right)` says what two neighbouring symbols become. Cost: n log n for n symbols; linear for a run of one character, whose
  /// candidates come up in order.
  template <typename Find>
  void merge_all(const Find& find) {
    sorted_.clear();
    later_.clear();
    for (uint32_t i = 0; i + 1 < symbols_.size(); ++i) {
      symbols_[i].with_next = find(symbols_[i], symbols_[i + 1]);
      if (symbols_[i].with_next.rank != Merge::kNever) sorted_.push_back(candidate(i));
    }
    sort(sorted_);
    for (size_t next = 0;;) {
      if (next == sorted_.size()) {
        // A heap that was filled in ascending order is a sorted list already, which spares taking it apart step by step.
        std::swap(sorted_, later_);
        later_.clear();
        sort(sorted_);
        next = 0;
        if (sorted_.empty()) return;
      }
      uint64_t first = sorted_[next];
      if (!later_.empty() && later_.front() < first) {
        std::pop_heap(later_.begin(), later_.end(), std::greater<>());
        first = later_.back();
        later_.pop_back();
      } else {
        ++next;
      }
      const uint32_t left = static_cast<uint32_t>(first);
      // A candidate whose symbols have changed since it was noted down no longer has its rank.
      if (symbols_[left].with_next.rank == first >> 32) join(left, find);
    }
  }

  /// Calls `visit(symbol)` for what is left, in order.
  template <typename Visit>
  void for_each(const Visit& visit) const {
    if (symbols_.empty()) return;
    for (uint32_t i = 0; i != MergeSymbol::kNone; i = symbols_[i].next) visit(symbols_[i]);
  }

 private:
  // Rank above place: numbers compare as merging asks.
  uint64_t candidate(uint32_t left) const { return uint64_t{symbols_[left].with_next.rank} << 32 | left; }

  static void sort(std::vector<uint64_t>& candidates) {
    if (!std::is_sorted(candidates.begin(), candidates.end())) std::sort(candidates.begin(), candidates.end());
  }

  template <typename Find>
  void join(uint32_t left, const Find& find) {
    MergeSymbol& symbol = symbols_[left];
    MergeSymbol& swallowed = symbols_[symbol.next];
    symbol.token = symbol.with_next.merged;
    symbol.bytes += swallowed.bytes;
    symbol.next = swallowed.next;
    swallowed.with_next = {};
    if (symbol.next != MergeSymbol::kNone) symbols_[symbol.next].previous = left;
    refresh(left, find);
    if (symbol.previous != MergeSymbol::kNone) refresh(symbol.previous, find);
  }

  template <typename Find>
  void refresh(uint32_t left, const Find& find) {
    MergeSymbol& symbol = symbols_[left];
    symbol.with_next = symbol.next == MergeSymbol::kNone ? Merge{} : find(symbol, symbols_[symbol.next]);
    if (symbol.with_next.rank == Merge::kNever) return;
    later_.push_back(candidate(left));
    std::push_heap(later_.begin(), later_.end(), std::greater<>());
  }

  std::vector<MergeSymbol> symbols_;
  std::vector<uint64_t> sorted_;  // candidates in order
  std::vector<uint64_t> later_;   // a heap of those that merging has brought up since
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_TOKENIZER_MERGE_H_
