// TextIndex and MergeTable: the two look-ups of a tokenizer, a few bytes an entry. Built once, read by any number of threads.
#ifndef OUTRIGGER_SRC_MODEL_TOKENIZER_INDEX_H_
#define OUTRIGGER_SRC_MODEL_TOKENIZER_INDEX_H_

#include <outrigger/tokenizer.h>

#include <bit>
#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

namespace outrigger {

/// From a text to the token that has it, for texts kept elsewhere: the index holds 6 bytes a token and asks `text_of(token)` for the rest.
/// Open addressing with linear probing; the bits that a token's number leaves free hold a piece of its hash, so that a text which is not
/// there is nearly always told without touching another's bytes.
class TextIndex {
 public:
  TextIndex() = default;
  explicit TextIndex(size_t most_tokens)
      : slots_(most_tokens + most_tokens / 2 + 1, kEmpty), token_mask_(static_cast<uint32_t>(std::bit_ceil(most_tokens + 1) - 1)) {}

  template <typename TextOf>
  Token find(std::string_view text, const TextOf& text_of) const {
    if (slots_.empty()) return -1;
    const uint32_t slot = slots_[place(text, text_of)];
    return slot == kEmpty ? -1 : token_of(slot);
  }

  /// Adds the token, or returns the one that already has its text, in which case nothing changes; -1 if it was added.
  template <typename TextOf>
  Token insert(Token token, const TextOf& text_of) {
    const std::string_view text = text_of(token);
    const size_t at = place(text, text_of);
    if (slots_[at] != kEmpty) return token_of(slots_[at]);
    slots_[at] = mark_of(hash_of(text)) | static_cast<uint32_t>(token);
    return -1;
  }

 private:
  static constexpr uint32_t kEmpty = 0xffffffff;  // never a slot's value: token_mask_ is above every token

  static uint64_t hash_of(std::string_view text) { return std::hash<std::string_view>{}(text); }
  uint32_t mark_of(uint64_t hash) const { return static_cast<uint32_t>(hash) & ~token_mask_; }
  Token token_of(uint32_t slot) const { return static_cast<Token>(slot & token_mask_); }

  // The slot that holds `text`, or the empty one where it belongs.
  template <typename TextOf>
  size_t place(std::string_view text, const TextOf& text_of) const {
    const uint64_t hash = hash_of(text);
    const uint32_t mark = mark_of(hash);
    size_t at = static_cast<size_t>((hash >> 32) * slots_.size() >> 32);
    while (slots_[at] != kEmpty && ((slots_[at] & ~token_mask_) != mark || text_of(token_of(slots_[at])) != text)) {
      if (++at == slots_.size()) at = 0;
    }
    return at;
  }

  std::vector<uint32_t> slots_;
  uint32_t token_mask_ = 0;
};

/// What becomes of two neighbours. The lower the rank, the earlier they join; kNever when they do not.
struct Merge {
  static constexpr uint32_t kNever = 0xffffffff;
  uint32_t rank = kNever;
  Token merged = -1;
};

/// From a pair of tokens to their merge: 16 bytes an entry at a load of three quarters. The entries lie in the order of their keys, so a
/// pair that is not there is told after the same two or three steps as one that is.
class MergeTable {
 public:
  struct Rule {
    Token left, right, merged;  ///< the rule's rank is its place in the list
  };

  MergeTable() = default;
  /// Of a pair that occurs twice the first rule counts. Preconditions: tokens are not negative, fewer than 2^32 - 1 rules.
  explicit MergeTable(const std::vector<Rule>& rules);

  Merge find(Token left, Token right) const {
    const uint64_t key = key_of(left, right);
    const Entry* entry = entries_.data() + home_of(key);
    while (entry->key < key) ++entry;
    return entry->key == key ? Merge{entry->rank, entry->merged} : Merge{};
  }

 private:
  struct Entry {
    uint64_t key;
    uint32_t rank;
    Token merged;
  };
  // Ends every probe; and if a pair's key were the same number, the pair still would not merge.
  static constexpr Entry kEmpty = {~uint64_t{0}, Merge::kNever, -1};

  // Different pairs have different keys, since each step can be undone, and keys are spread evenly over 64 bits.
  static uint64_t key_of(Token left, Token right) {
    uint64_t key = static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right);
    key *= 0x9e3779b97f4a7c15;
    key ^= key >> 32;
    return key * 0xd6e8feb86659fd93;
  }
  size_t home_of(uint64_t key) const { return static_cast<size_t>((key >> 32) * homes_ >> 32); }

  uint64_t homes_ = 0;
  std::vector<Entry> entries_ = {kEmpty};
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_TOKENIZER_INDEX_H_
