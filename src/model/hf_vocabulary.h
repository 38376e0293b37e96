// HfVocabulary: the tokens of tokenizer.json by number, and its merges.
#ifndef OUTRIGGER_SRC_MODEL_HF_VOCABULARY_H_
#define OUTRIGGER_SRC_MODEL_HF_VOCABULARY_H_

#include <outrigger/status.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "src/io/gguf_header.h"
#include "src/io/json_text.h"
#include "src/model/tokenizer_vocabulary.h"

namespace outrigger {

/// Texts as the file spells them, in one piece of memory: 9 bytes a token beside them.
class HfVocabulary {
 public:
  /// From model.vocab and added_tokens. Numbers up to `tokens` that no token has are empty texts that are never used. 0: as many as the
  /// highest number asks for, as long as most have a token.
  /// Errors: kCorruptFile for a number that is none, beyond `tokens` or given twice, and for a token that two members number differently;
  /// kUnsupported for an added token that takes the spaces around it along.
  static Result<HfVocabulary> read(JsonValue tokenizer, uint64_t tokens);

  size_t size() const { return types_.size(); }
  std::string_view text(size_t token) const { return std::string_view(texts_).substr(spans_[token].begin, spans_[token].bytes); }
  TokenType type(size_t token) const { return types_[token]; }
  void set_type(size_t token, TokenType type) { types_[token] = type; }
  /// Linear.
  std::optional<uint32_t> find(std::string_view text) const;
  uint64_t text_bytes() const { return texts_.size(); }

  /// "tokenizer.ggml.tokens" and ".token_type".
  void add_to(GgufHeader* header) const;

 private:
  struct Span {
    uint32_t begin = 0, bytes = 0;
  };

  Status set(JsonValue place, const std::string& subject, uint64_t number, std::string_view text, TokenType type);
  Status read_vocab(JsonValue vocab);
  Status read_added(JsonValue added);

  std::string texts_;
  std::vector<Span> spans_;
  std::vector<TokenType> types_;  ///< kUnused: no token has the number
};

/// "tokenizer.ggml.merges" from model.merges, whose items are "a b" or ["a", "b"]. Errors: kCorruptFile for other items, and for more than
/// a vocabulary of `text_bytes` allows to tell apart; kUnsupported for a part with a space.
Status add_hf_merges(JsonValue model, uint64_t text_bytes, GgufHeader* header);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_HF_VOCABULARY_H_
