// HfVocabulary: from texts with numbers to texts by number.
#include "src/model/hf_vocabulary.h"

#include <algorithm>

#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/io/printable.h"

namespace outrigger {
namespace {

// Numbers without a token, where nothing else says how many there are: a few hundred are reserved at most.
constexpr uint64_t kMostGaps = 4096;

}  // namespace

Status HfVocabulary::set(JsonValue place, const std::string& subject, uint64_t number, std::string_view text, TokenType type) {
  if (number >= spans_.size()) {
    return place.error(StatusCode::kCorruptFile, subject,
                       formatted("token \"{}\" has the number {}, but the model has {} tokens", printable(text), number, spans_.size()));
  }
  if (types_[number] != TokenType::kUnused) {
    return place.error(
        StatusCode::kCorruptFile, subject,
        formatted("tokens \"{}\" and \"{}\" both have the number {}", printable(this->text(number)), printable(text), number));
  }
  spans_[number] = {static_cast<uint32_t>(texts_.size()), static_cast<uint32_t>(text.size())};
  types_[number] = type;
  texts_ += text;
  return {};
}

Status HfVocabulary::read_vocab(JsonValue vocab) {
  return vocab.each_member([this](std::string_view text, JsonValue value) -> Status {
    const std::optional<uint64_t> number = value.whole();
    return number ? set(value, "model.vocab", *number, text, TokenType::kNormal) : value.wrong("model.vocab", "a token's number");
  });
}

// An added token is often in the vocabulary as well; then both must give it the same number.
Status HfVocabulary::read_added(JsonValue added) {
  return added.each_item([this](JsonValue token) -> Status {
    const std::string subject = "added_tokens";
    if (token.kind() != JsonKind::kObject) return token.wrong(subject, "objects with id and content");
    const std::optional<JsonValue> id = token.find("id"), content = token.find("content");
    const uint64_t number = id ? id->whole().value_or(UINT64_MAX) : UINT64_MAX;
    const std::optional<std::string> text = content ? content->string() : std::nullopt;
    if (number == UINT64_MAX || !text) return token.wrong(subject, "objects with a number as id and a text as content");
    const auto flag = [&](const char* name) {
      const std::optional<JsonValue> value = token.find(name);
      return value && value->boolean().value_or(false);
    };
    for (const char* name : {"lstrip", "rstrip", "single_word"}) {
      if (flag(name))
        return token.error(StatusCode::kUnsupported, subject,
                           formatted("the added token \"{}\" has {}, which is not supported", printable(*text), name));
    }
    const TokenType type = flag("special") ? TokenType::kControl : TokenType::kUserDefined;
    if (number < size() && types_[number] == TokenType::kNormal && this->text(number) == *text) {
      types_[number] = type;
      return {};
    }
    return set(token, subject, number, *text, type);
  });
}

Result<HfVocabulary> HfVocabulary::read(JsonValue tokenizer, uint64_t tokens) {
  HfVocabulary vocabulary;
  const std::optional<JsonValue> model = tokenizer.find("model"), vocab = model ? model->find("vocab") : std::nullopt;
  if (!vocab || vocab->kind() != JsonKind::kObject)
    return (vocab ? *vocab : tokenizer).wrong("model.vocab", "an object of tokens and their numbers");
  const std::optional<JsonValue> added = tokenizer.find_value("added_tokens");
  if (added && added->kind() != JsonKind::kArray) return added->wrong("added_tokens", "an array");
  if (tokens == 0) {
    uint64_t count = 0;
    const auto see = [&](std::optional<JsonValue> number) {
      ++count;
      const uint64_t value = number ? number->whole().value_or(0) : 0;
      tokens = std::max(tokens, value == UINT64_MAX ? value : value + 1);
      return Status();
    };
    OTR_TRY(vocab->each_member([&](std::string_view, JsonValue number) { return see(number); }));
    if (added) OTR_TRY(added->each_item([&](JsonValue token) { return see(token.find("id")); }));
    tokens = std::min(tokens, 2 * count + kMostGaps);
  }
  vocabulary.spans_.resize(tokens);
  vocabulary.types_.resize(tokens, TokenType::kUnused);
  OTR_TRY(vocabulary.read_vocab(*vocab));
  if (added) OTR_TRY(vocabulary.read_added(*added));
  return vocabulary;
}

std::optional<uint32_t> HfVocabulary::find(std::string_view text) const {
  for (size_t token = 0; token < size(); ++token) {
    if (types_[token] != TokenType::kUnused && this->text(token) == text) return static_cast<uint32_t>(token);
  }
  return std::nullopt;
}

void HfVocabulary::add_to(GgufHeader* header) const {
  header->begin_array("tokenizer.ggml.tokens", GgufType::kString);
  for (size_t token = 0; token < size(); ++token) header->add_element(text(token));
  header->end_array();
  header->begin_array("tokenizer.ggml.token_type", GgufType::kI32);
  for (const TokenType type : types_) header->add_element(static_cast<int32_t>(type));
  header->end_array();
}

Status add_hf_merges(JsonValue model, uint64_t text_bytes, GgufHeader* header) {
  const std::string subject = "model.merges";
  const std::optional<JsonValue> merges = model.find("merges");
  if (!merges || merges->kind() != JsonKind::kArray) return (merges ? *merges : model).wrong(subject, "an array of pairs");
  header->begin_array("tokenizer.ggml.merges", GgufType::kString);
  uint64_t count = 0;
  const auto add = [&](JsonValue item) -> Status {
    // A token of n bytes is made by one of n - 1 pairs, so that more merges than bytes repeat themselves.
    if (++count > text_bytes)
      return item.error(StatusCode::kCorruptFile, subject,
                        formatted("a vocabulary of {} bytes cannot have more merges than that", text_bytes));
    if (const std::optional<std::string> both = item.string()) {
      header->add_element(*both);
      return {};
    }
    if (item.kind() != JsonKind::kArray) return item.wrong(subject, "\"a b\" or [\"a\", \"b\"]");
    std::string joined;
    int parts = 0;
    OTR_TRY(item.each_item([&](JsonValue part) -> Status {
      const std::optional<std::string> text = part.string();
      if (!text || text->empty() || ++parts > 2) return item.wrong(subject, "\"a b\" or [\"a\", \"b\"]");
      if (text->find(' ') != std::string::npos)
        return part.error(StatusCode::kUnsupported, subject, "a merge of tokens with spaces in them is not supported");
      joined += (parts == 2 ? " " : "") + *text;
      return {};
    }));
    if (parts != 2) return item.wrong(subject, "\"a b\" or [\"a\", \"b\"]");
    header->add_element(joined);
    return {};
  };
  OTR_TRY(merges->each_item(add));
  header->end_array();
  return {};
}

}  // namespace outrigger
