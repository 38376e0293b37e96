// Vocabulary: the tokens' bytes in one piece of memory, and SpecialTexts: finding tokens that stand for themselves in a text.
#ifndef OUTRIGGER_SRC_MODEL_TOKENIZER_VOCABULARY_H_
#define OUTRIGGER_SRC_MODEL_TOKENIZER_VOCABULARY_H_

#include <outrigger/tokenizer.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "src/model/tokenizer_index.h"

namespace outrigger {

/// The values are the format's.
enum class TokenType : uint8_t { kUndefined = 0, kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

/// Every token with the bytes it stands for in a text. 11 bytes a token beside the texts where they can be looked up, 5 where not.
class Vocabulary {
 public:
  Vocabulary() = default;
  /// Preconditions: `text_bytes` is at least the sum of what will be appended, and below 2^32.
  Vocabulary(size_t tokens, size_t text_bytes, bool indexed);

  /// Appends the next token. `findable`: find() may return it; of two with one text it returns the first.
  void append(std::string_view bytes, TokenType type, bool findable);

  int32_t size() const { return static_cast<int32_t>(types_.size()); }
  bool contains(Token token) const { return token >= 0 && token < size(); }
  std::string_view bytes(Token token) const { return std::string_view(texts_).substr(begins_[token], begins_[token + 1] - begins_[token]); }
  TokenType type(Token token) const { return types_[token]; }
  /// Whether the token is written only on request: it marks something, or stands for what cannot be said.
  bool is_hidden(Token token) const { return types_[token] == TokenType::kControl || types_[token] == TokenType::kUnknown; }

  /// The ordinary token with exactly these bytes, or -1; always -1 where not indexed.
  Token find(std::string_view bytes) const {
    return index_.find(bytes, [this](Token token) { return this->bytes(token); });
  }
  /// No find() succeeds for more bytes than this.
  size_t longest_bytes() const { return longest_bytes_; }

 private:
  std::string texts_;
  std::vector<uint32_t> begins_ = {0};
  std::vector<TokenType> types_;
  bool indexed_ = false;
  TextIndex index_;
  size_t longest_bytes_ = 0;
};

/// A set of tokens that are recognised in a text as they stand, before anything else happens to it.
class SpecialTexts {
 public:
  /// Longer texts are never matched, which bounds the work at each place of a text.
  static constexpr size_t kMostBytes = 256;

  SpecialTexts() = default;
  /// The vocabulary must outlive this and stay where it is. Empty and over-long texts are left out.
  SpecialTexts(const Vocabulary& vocabulary, const std::vector<Token>& tokens);

  /// Cuts `text` at the tokens in it: at each place the longest one wins. Calls on_text(part) for what lies between and on_token(token), in
  /// order.
  template <typename OnText, typename OnToken>
  void split(std::string_view text, const OnText& on_text, const OnToken& on_token) const {
    size_t done = 0;
    for (size_t at = 0; !sorted_.empty() && at < text.size();) {
      const auto [match, token] = longest_at(text.substr(at));
      if (match.empty()) {
        ++at;
        continue;
      }
      if (at > done) on_text(text.substr(done, at - done));
      on_token(token);
      done = at += match.size();
    }
    if (done < text.size()) on_text(text.substr(done));
  }

 private:
  using Entry = std::pair<std::string_view, Token>;
  Entry longest_at(std::string_view text) const;

  std::vector<Entry> sorted_;
  std::array<bool, 256> begins_with_ = {};
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_TOKENIZER_VOCABULARY_H_
