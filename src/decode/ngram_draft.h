// NgramDraft: what followed the last tokens when they stood in the text before.
#ifndef OUTRIGGER_SRC_DECODE_NGRAM_DRAFT_H_
#define OUTRIGGER_SRC_DECODE_NGRAM_DRAFT_H_

#include "src/decode/draft_source.h"
#include "src/decode/ngram_index.h"

namespace outrigger {

/// Looks in prompt and output. Draws nothing.
class NgramDraft final : public DraftSource {
 public:
  explicit NgramDraft(size_t context_tokens) : index_(context_tokens) {}

  /// A match whose continuation reaches the text's end goes on with the draft itself: a text that repeats a period goes on repeating it.
  Status propose(std::span<const Token> tokens, uint32_t most, const CancelToken&, Draft* draft) override {
    const NgramIndex::Match match = index_.find(tokens);
    if (match.length == 0) return {};
    for (size_t at = match.next; draft->tokens().size() < most; ++at)
      draft->add(at < tokens.size() ? tokens[at] : draft->tokens()[at - tokens.size()]);
    return {};
  }
  bool is_certain() const override { return true; }

 private:
  NgramIndex index_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DECODE_NGRAM_DRAFT_H_
