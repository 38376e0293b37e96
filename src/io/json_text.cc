// JsonText and JsonValue: moving about in a text that has been checked.
#include "src/io/json_text.h"

#include <charconv>

#include "src/base/bytes.h"
#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/io/json_scanner.h"
#include "src/io/printable.h"

namespace outrigger {
namespace {

// Past the closing quote of the string that begins at `at`.
uint32_t end_of_string(std::string_view text, uint32_t at) {
  for (++at; text[at] != '"'; ++at) at += text[at] == '\\';
  return at + 1;
}

}  // namespace

const char* json_kind_name(JsonKind kind) {
  constexpr const char* kNames[] = {"an object", "an array", "a string", "a number", "true or false", "null"};
  return kNames[static_cast<size_t>(kind)];
}

Result<JsonText> JsonText::parse(std::string text, std::string file, uint64_t file_offset) {
  if (text.size() > kJsonMaxBytes) {
    return Status(StatusCode::kUnsupported,
                  formatted("the JSON text has {}, the limit is {}", format_bytes(text.size()), format_bytes(kJsonMaxBytes)))
        .in_file(std::move(file));
  }
  auto document = std::make_unique<json_detail::Document>();
  document->file = std::move(file);
  document->text = std::move(text);
  document->file_offset = file_offset;
  OTR_TRY(JsonScanner(*document).scan());
  JsonText parsed;
  while (is_json_space(document->text[parsed.root_])) ++parsed.root_;
  parsed.document_ = std::move(document);
  return parsed;
}

JsonKind JsonValue::kind() const {
  switch (at(at_)) {
    case '{':
      return JsonKind::kObject;
    case '[':
      return JsonKind::kArray;
    case '"':
      return JsonKind::kString;
    case 't':
    case 'f':
      return JsonKind::kBool;
    case 'n':
      return JsonKind::kNull;
    default:
      return JsonKind::kNumber;
  }
}

uint32_t JsonValue::skip_space(uint32_t place) const {
  while (is_json_space(at(place))) ++place;
  return place;
}

uint32_t JsonValue::end_of_value(uint32_t place) const {
  const std::string_view text = document_->text;
  uint32_t depth = 0;
  do {
    const char c = text[place];
    if (c == '"') {
      place = end_of_string(text, place);
      continue;
    }
    depth += c == '{' || c == '[';
    depth -= c == '}' || c == ']';
    ++place;
  } while (depth > 0);
  // A number or a word ends where something else begins; strings and containers have ended already.
  if (const char c = text[place - 1]; c == '"' || c == '}' || c == ']') return place;
  while (place < text.size() && text[place] != ',' && text[place] != '}' && text[place] != ']' && !is_json_space(text[place])) ++place;
  return place;
}

std::string_view JsonValue::raw() const { return std::string_view(document_->text).substr(at_, end_of_value(at_) - at_); }

bool JsonValue::first(uint32_t* place) const {
  *place = skip_space(*place + 1);
  return at(*place) != '}' && at(*place) != ']';
}

bool JsonValue::next(uint32_t* place) const {
  *place = skip_space(*place);
  if (at(*place) != ',') return false;
  *place = skip_space(*place + 1);
  return true;
}

std::string_view JsonValue::take_key(uint32_t* place, std::string* scratch) const {
  const uint32_t end = end_of_string(document_->text, *place);
  std::string_view key = std::string_view(document_->text).substr(*place + 1, end - *place - 2);
  if (key.find('\\') != std::string_view::npos) {
    *scratch = decode_json_string(key);
    key = *scratch;
  }
  *place = skip_space(skip_space(end) + 1);
  return key;
}

std::optional<JsonValue> JsonValue::find(std::string_view key) const {
  if (kind() != JsonKind::kObject) return std::nullopt;
  std::string scratch;
  uint32_t place = at_;
  for (bool more = first(&place); more; more = next(&place)) {
    if (take_key(&place, &scratch) == key) return JsonValue(document_, place);
    place = end_of_value(place);
  }
  return std::nullopt;
}

std::optional<JsonValue> JsonValue::find_value(std::string_view key) const {
  const std::optional<JsonValue> value = find(key);
  return value && !value->is_null() ? value : std::nullopt;
}

std::optional<std::string> JsonValue::string() const {
  if (kind() != JsonKind::kString) return std::nullopt;
  const std::string_view literal = raw();
  return decode_json_string(literal.substr(1, literal.size() - 2));
}

std::optional<double> JsonValue::number() const {
  if (kind() != JsonKind::kNumber) return std::nullopt;
  const std::string_view digits = raw();
  double value = 0;
  const auto [end, problem] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return problem == std::errc() && end == digits.data() + digits.size() ? std::optional(value) : std::nullopt;
}

std::optional<uint64_t> JsonValue::whole() const {
  if (kind() != JsonKind::kNumber) return std::nullopt;
  const std::string_view digits = raw();
  uint64_t value = 0;
  const auto [end, problem] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return problem == std::errc() && end == digits.data() + digits.size() ? std::optional(value) : std::nullopt;
}

std::optional<bool> JsonValue::boolean() const {
  if (kind() != JsonKind::kBool) return std::nullopt;
  return at(at_) == 't';
}

Status JsonValue::error(StatusCode code, std::string subject, std::string message) const {
  return Status(code, std::move(message)).in_file(document_->file).about(printable(subject)).at_offset(offset());
}

Status JsonValue::wrong(std::string subject, std::string_view need) const {
  return error(StatusCode::kCorruptFile, subject, formatted("{}: got {}, need {}", printable(subject), printable(raw(), 40), need));
}

}  // namespace outrigger
