// What a Tokenizer is made of, and the encoder that works on it.
#ifndef OUTRIGGER_SRC_MODEL_TOKENIZER_IMPL_H_
#define OUTRIGGER_SRC_MODEL_TOKENIZER_IMPL_H_

#include <outrigger/tokenizer.h>

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "src/model/chat_template.h"
#include "src/model/pretokenizer.h"
#include "src/model/tokenizer_index.h"
#include "src/model/tokenizer_merge.h"
#include "src/model/tokenizer_vocabulary.h"

namespace outrigger {

/// Immutable once built. `pre` tells the two families apart: byte-level byte-pair encoding has one, SentencePiece has none.
struct Tokenizer::Impl {
  std::string kind;
  std::optional<PreTokenizer> pre;
  Vocabulary vocabulary;
  std::array<Token, 256> byte_tokens;  ///< -1 where the vocabulary has none

  bool by_merges = false;  ///< neighbours join by `merges`, not by `ranks`
  MergeTable merges;

  // Byte-level only. Texts are kept as bytes, not in the alphabet of printable characters that files spell them in.
  bool whole_words = false;  ///< a pre-token that is in the vocabulary is taken as it is, whatever merging would make of it
  bool composes = false;     ///< text is brought into Unicode's NFC first

  // SentencePiece only. Texts have plain spaces where files have U+2581.
  std::vector<uint32_t> ranks;  ///< by token: the higher its score, the lower its rank
  bool add_space_prefix = false;
  bool space_prefix_once = false;  ///< only at the beginning, not behind special tokens
  bool words_apart = false;  ///< no token has a space behind another character, so words cannot merge with each other

  Token bos = -1, eos = -1, unknown = -1;
  bool adds_bos = false, adds_eos = false;
  std::vector<Token> ends;  ///< sorted: tokens that end a text or a turn

  SpecialTexts marks;   ///< recognised with parse_special
  SpecialTexts always;  ///< recognised in every text: user-defined tokens that are plain text, such as runs of spaces

  std::optional<ChatTemplate> chat_template;
};

/// Turns text into tokens; holds the memory one word needs, for one call.
class Encoder {
 public:
  Encoder(const Tokenizer::Impl& impl, std::vector<Token>& out) : impl_(impl), out_(out) {}

  /// Appends the tokens of `text`, which stands alone or between special tokens.
  void encode(std::string_view text, bool parse_special);
  /// What comes next stands behind a special token that the caller has written.
  void leave_start() { at_start_ = false; }

 private:
  void encode_part(std::string_view part);
  void encode_words(std::string_view text);
  void encode_word(std::string_view word);
  void encode_sentence(std::string_view text);
  void encode_pieces(std::string_view word);
  void append_unknown(std::string_view character);

  const Tokenizer::Impl& impl_;
  std::vector<Token>& out_;
  Merger merger_;
  std::string word_, composed_;
  bool at_start_ = true;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_TOKENIZER_IMPL_H_
