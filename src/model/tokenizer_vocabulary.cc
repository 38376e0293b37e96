// Vocabulary and SpecialTexts.
#include "src/model/tokenizer_vocabulary.h"

#include <algorithm>

namespace outrigger {

Vocabulary::Vocabulary(size_t tokens, size_t text_bytes, bool indexed) : indexed_(indexed) {
  texts_.reserve(text_bytes);
  begins_.reserve(tokens + 1);
  types_.reserve(tokens);
  if (indexed) index_ = TextIndex(tokens);
}

void Vocabulary::append(std::string_view bytes, TokenType type, bool findable) {
  const Token token = size();
  texts_.append(bytes);
  begins_.push_back(static_cast<uint32_t>(texts_.size()));
  types_.push_back(type);
  if (!indexed_ || !findable || bytes.empty()) return;
  index_.insert(token, [this](Token other) { return this->bytes(other); });
  longest_bytes_ = std::max(longest_bytes_, bytes.size());
}

SpecialTexts::SpecialTexts(const Vocabulary& vocabulary, const std::vector<Token>& tokens) {
  for (const Token token : tokens) {
    const std::string_view text = vocabulary.bytes(token);
    if (text.empty() || text.size() > kMostBytes) continue;
    sorted_.emplace_back(text, token);
    begins_with_[static_cast<unsigned char>(text[0])] = true;
  }
  std::sort(sorted_.begin(), sorted_.end());
}

// Narrows the sorted texts byte by byte to those that begin as `text` does; one that ends on the way is a match.
SpecialTexts::Entry SpecialTexts::longest_at(std::string_view text) const {
  Entry longest = {{}, -1};
  if (!begins_with_[static_cast<unsigned char>(text[0])]) return longest;
  auto low = sorted_.begin(), high = sorted_.end();
  for (size_t depth = 0; depth < text.size() && low != high; ++depth) {
    const int wanted = static_cast<unsigned char>(text[depth]);
    const auto byte_of = [depth](const Entry& entry) {
      return entry.first.size() == depth ? -1 : static_cast<int>(static_cast<unsigned char>(entry.first[depth]));
    };
    low = std::lower_bound(low, high, wanted, [&](const Entry& entry, int byte) { return byte_of(entry) < byte; });
    high = std::upper_bound(low, high, wanted, [&](int byte, const Entry& entry) { return byte < byte_of(entry); });
    if (low != high && low->first.size() == depth + 1) longest = *low;
  }
  return longest;
}

}  // namespace outrigger
