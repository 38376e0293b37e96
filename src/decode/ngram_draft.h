// NgramDraft: what followed the last tokens when they stood in the text before.
#ifndef OUTRIGGER_SRC_DECODE_NGRAM_DRAFT_H_
#define OUTRIGGER_SRC_DECODE_NGRAM_DRAFT_H_

#include <algorithm>

#include "src/decode/draft_source.h"
#include "src/decode/ngram_index.h"

namespace outrigger {

/// Looks in prompt and output. Draws nothing.
class NgramDraft final : public DraftSource {
 public:
  explicit NgramDraft(size_t context_tokens) : index_(context_tokens) {}

  Status propose(std::span<const Token> tokens, uint32_t most, const CancelToken&, Draft* draft) override {
    Continuation only(tokens, index_.find(tokens));
    while (only.is_known() && draft->tokens().size() < most) draft->add(only.next());
    return {};
  }
  /// Two chains: what followed the longest match, and what followed the longest of those that went on otherwise. One, if there are none.
  uint32_t tree_width() const override { return 2; }
  Status propose_tree(std::span<const Token> tokens, const DraftSize& size, const CancelToken& cancel, Draft* draft) override {
    const NgramIndex::Match match = index_.find(tokens), other = index_.find_other(tokens, match);
    if (other.length == 0) return propose(tokens, std::min(size.tokens, size.room), cancel, draft);
    Continuation chains[] = {{tokens, match}, {tokens, other}};
    size_t ends[] = {0, 0};
    for (uint32_t depth = 0; depth < size.depth; ++depth) {
      for (int i = 0; i < 2; ++i) {
        if (draft->tokens().size() == size.tokens) continue;
        draft->add_under(ends[i], chains[i].next());
        ends[i] = draft->tokens().size();
      }
    }
    return {};
  }
  bool is_certain() const override { return true; }
  /// How many of the text's last tokens stand in it before.
  size_t match_length(std::span<const Token> tokens) { return index_.find(tokens).length; }

 private:
  /// What follows a match. Where it reaches the text's end it goes on with itself: a text that repeats a period goes on repeating it.
  class Continuation {
   public:
    Continuation(std::span<const Token> text, const NgramIndex::Match& match) : text_(text), match_(match) {}
    bool is_known() const { return match_.length > 0; }
    /// Precondition: is_known(), and fewer than kMostDraftTokens were asked for.
    Token next() {
      const size_t at = match_.next + count_;
      const Token token = at < text_.size() ? text_[at] : said_[at - text_.size()];
      return said_[count_++] = token;
    }

   private:
    std::span<const Token> text_;
    NgramIndex::Match match_;
    std::array<Token, kMostDraftTokens> said_;
    size_t count_ = 0;
  };

  NgramIndex index_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DECODE_NGRAM_DRAFT_H_
