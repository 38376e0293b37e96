// Where the last tokens of a text stood in it before.
#include "src/decode/ngram_index.h"

#include <algorithm>
#include <bit>

namespace outrigger {

NgramIndex::NgramIndex(size_t capacity_tokens) {
  const size_t buckets = std::bit_ceil(std::max<size_t>(2 * capacity_tokens, 16));
  latest_.assign(buckets, kNone);
  before_.assign(capacity_tokens + 1, kNone);
  shift_ = static_cast<uint32_t>(64 - std::countr_zero(buckets));
}

size_t NgramIndex::bucket(Token first, Token second) const {
  const uint64_t pair = uint64_t{static_cast<uint32_t>(first)} << 32 | static_cast<uint32_t>(second);
  return static_cast<size_t>(pair * 0x9e3779b97f4a7c15u >> shift_);  // the golden ratio's fraction spreads neighbours
}

void NgramIndex::add(std::span<const Token> text, size_t next) {
  uint32_t& latest = latest_[bucket(text[next - 2], text[next - 1])];
  before_[next] = latest;
  latest = static_cast<uint32_t>(next);
}

NgramIndex::Match NgramIndex::find(std::span<const Token> text) {
  const size_t size = text.size();
  if (size < kLeastMatch || size >= before_.size()) return {};
  for (; added_ < size; ++added_) add(text, added_);  // not the end itself, which would match itself
  return longest(text, nullptr);
}

NgramIndex::Match NgramIndex::find_other(std::span<const Token> text, const Match& first) const {
  return first.length == 0 ? Match() : longest(text, &first);
}

NgramIndex::Match NgramIndex::longest(std::span<const Token> text, const Match* but) const {
  const size_t size = text.size();
  Match best;
  uint32_t place = latest_[bucket(text[size - 2], text[size - 1])];
  for (size_t looked = 0; place != kNone && looked < kMostPlaces && best.length < kMostMatch; ++looked, place = before_[place]) {
    if (but != nullptr && text[place] == text[but->next]) continue;
    const size_t most = std::min<size_t>(kMostMatch, place);
    size_t length = 0;
    while (length < most && text[place - 1 - length] == text[size - 1 - length]) ++length;
    if (length >= kLeastMatch && length > best.length) best = {place, length};
  }
  return best;
}

}  // namespace outrigger
