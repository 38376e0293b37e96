// TextStream: whole characters out of tokens that may end in the middle of one.
#include <outrigger/tokenizer.h>

#include "src/base/macros.h"
#include "src/model/utf8.h"

namespace outrigger {
namespace {

constexpr uint32_t kReplacement = 0xfffd;

// Bytes that are no character, which a model can produce one by one, become U+FFFD: the text that leaves is always well-formed.
std::string well_formed(std::string_view bytes) {
  std::string text;
  while (!bytes.empty()) {
    const Utf8Char c = decode_utf8(bytes);
    if (c.code == kInvalidCode) {
      append_utf8(kReplacement, text);
    } else {
      text.append(bytes, 0, c.bytes);
    }
    bytes.remove_prefix(c.bytes);
  }
  return text;
}

}  // namespace

TextStream::TextStream(Tokenizer tokenizer, bool with_special) : tokenizer_(std::move(tokenizer)), with_special_(with_special) {}

Result<std::string> TextStream::push(Token token) {
  OTR_ASSIGN(const std::string piece, tokenizer_.piece(token, with_special_));
  if (piece.empty()) return std::string();
  if (at_start_) {
    OTR_ASSIGN(const std::string first, tokenizer_.decode({&token, 1}, with_special_));
    pending_ += first;
  } else {
    pending_ += piece;
  }
  at_start_ = false;
  const size_t whole = pending_.size() - unfinished_utf8_bytes(pending_);
  std::string text = well_formed(std::string_view(pending_).substr(0, whole));
  pending_.erase(0, whole);
  return text;
}

std::string TextStream::finish() {
  std::string text;
  if (!pending_.empty()) append_utf8(kReplacement, text);
  pending_.clear();
  at_start_ = true;
  return text;
}

}  // namespace outrigger
