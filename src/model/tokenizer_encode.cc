// Encoder: byte-level byte-pair encoding and SentencePiece.
#include <algorithm>

#include "src/model/tokenizer_impl.h"
#include "src/model/utf8.h"

namespace outrigger {

void Encoder::encode(std::string_view text, bool parse_special) {
  const SpecialTexts& specials = parse_special ? impl_.marks : impl_.always;
  specials.split(
      text, [this](std::string_view part) { encode_part(part); },
      [this](Token token) {
        out_.push_back(token);
        at_start_ = false;
      });
}

void Encoder::encode_part(std::string_view part) {
  if (impl_.composes && compose_utf8(part, composed_)) part = composed_;
  impl_.pre ? encode_words(part) : encode_sentence(part);
  at_start_ = false;
}

void Encoder::encode_words(std::string_view text) {
  while (!text.empty()) {
    const size_t bytes = pre_token_bytes(*impl_.pre, text);
    encode_word(text.substr(0, bytes));
    text.remove_prefix(bytes);
  }
}

void Encoder::encode_word(std::string_view word) {
  if (impl_.whole_words && word.size() <= impl_.vocabulary.longest_bytes()) {
    const Token token = impl_.vocabulary.find(word);
    if (token >= 0) return out_.push_back(token);
  }
  merger_.clear();
  for (uint32_t i = 0; i < word.size(); ++i) {
    // A byte that no token stands for (some vocabularies lack those that well-formed text never has) is as if it were not there.
    const Token token = impl_.byte_tokens[static_cast<unsigned char>(word[i])];
    if (token >= 0) merger_.append(token, i, 1);
  }
  merger_.merge_all([this](const MergeSymbol& left, const MergeSymbol& right) { return impl_.merges.find(left.token, right.token); });
  merger_.for_each([this](const MergeSymbol& symbol) { out_.push_back(symbol.token); });
}

// The whole text is one word to SentencePiece. Cutting it before each run of spaces gives the same tokens when no token reaches across such
// a cut, and then the memory is that of the longest word and not 36 bytes for each character of the text.
void Encoder::encode_sentence(std::string_view text) {
  static constexpr std::string_view kVisibleSpace = "\xe2\x96\x81";
  word_.clear();
  if (impl_.add_space_prefix && (at_start_ || !impl_.space_prefix_once)) word_ = ' ';
  while (!text.empty()) {
    const bool visible = text.starts_with(kVisibleSpace);
    const size_t bytes = visible ? kVisibleSpace.size() : decode_utf8(text).bytes;
    if (visible || text[0] == ' ') {
      if (impl_.words_apart && !word_.empty() && word_.back() != ' ') {
        encode_pieces(word_);
        word_.clear();
      }
      word_ += ' ';
    } else {
      word_.append(text, 0, bytes);
    }
    text.remove_prefix(bytes);
  }
  encode_pieces(word_);
}

void Encoder::encode_pieces(std::string_view word) {
  const Vocabulary& vocabulary = impl_.vocabulary;
  merger_.clear();
  for (uint32_t i = 0; i < word.size();) {
    const uint32_t bytes = decode_utf8(word.substr(i)).bytes;
    merger_.append(vocabulary.find(word.substr(i, bytes)), i, bytes);
    i += bytes;
  }
  merger_.merge_all([&](const MergeSymbol& left, const MergeSymbol& right) {
    if (impl_.by_merges) return impl_.merges.find(left.token, right.token);
    const uint32_t bytes = left.bytes + right.bytes;
    const Token joined = bytes > vocabulary.longest_bytes() ? -1 : vocabulary.find(word.substr(left.begin, bytes));
    return joined < 0 ? Merge{} : Merge{impl_.ranks[joined], joined};
  });
  merger_.for_each([&](const MergeSymbol& symbol) {
    if (symbol.token >= 0) return out_.push_back(symbol.token);
    append_unknown(word.substr(symbol.begin, symbol.bytes));
  });
}

void Encoder::append_unknown(std::string_view character) {
  const auto token_of = [this](char byte) { return impl_.byte_tokens[static_cast<unsigned char>(byte)]; };
  const bool has_all = std::all_of(character.begin(), character.end(), [&](char byte) { return token_of(byte) >= 0; });
  if (!has_all) return out_.push_back(impl_.unknown);
  for (const char byte : character) out_.push_back(token_of(byte));
}

}  // namespace outrigger
