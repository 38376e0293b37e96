// JsonText: a JSON document that is checked once and then read where it lies. Nothing is built from it, so that a hostile file costs no
// memory beyond its own bytes, and every error can name its place; that is why no library's document is used here.
#ifndef OUTRIGGER_SRC_IO_JSON_TEXT_H_
#define OUTRIGGER_SRC_IO_JSON_TEXT_H_

#include <outrigger/status.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "src/base/macros.h"

namespace outrigger {

enum class JsonKind : uint8_t { kObject, kArray, kString, kNumber, kBool, kNull };

/// "an object", "a string": as messages print it.
const char* json_kind_name(JsonKind kind);

/// Nesting beyond this is refused; the deepest file in use has 6.
inline constexpr uint32_t kJsonMaxDepth = 32;
/// Offsets within a text are 32 bits.
inline constexpr uint64_t kJsonMaxBytes = uint64_t{1} << 28;

namespace json_detail {

struct Document {
  std::string file;
  std::string text;
  uint64_t file_offset = 0;  ///< of the text in the file
};

}  // namespace json_detail

/// One value of a JsonText, which must outlive it. Cheap to copy. Reading costs the bytes passed over: looking a member up is linear.
class JsonValue {
 public:
  JsonKind kind() const;
  bool is_null() const { return kind() == JsonKind::kNull; }
  /// Of its first byte, in the file.
  uint64_t offset() const { return document_->file_offset + at_; }
  /// As it stands in the file.
  std::string_view raw() const;

  /// The member of an object; nothing when it is absent or this is no object.
  std::optional<JsonValue> find(std::string_view key) const;
  /// The same, and nothing when it is null too.
  std::optional<JsonValue> find_value(std::string_view key) const;

  /// What a string says; number, and whole number without fraction or exponent, when it is one that fits.
  std::optional<std::string> string() const;
  std::optional<double> number() const;
  std::optional<uint64_t> whole() const;
  std::optional<bool> boolean() const;
  /// Whether this is a string that says exactly `text`.
  bool says(std::string_view text) const { return string() == text; }

  /// Calls visit(std::string_view key, JsonValue) -> Status for the members of an object in their order, until one fails; the key holds
  /// during the call. Precondition: is an object.
  template <typename Visit>
  Status each_member(const Visit& visit) const;
  /// Calls visit(JsonValue) -> Status for the items of an array. Precondition: is an array.
  template <typename Visit>
  Status each_item(const Visit& visit) const;

  /// An error about this value: kCorruptFile or `code`, with file and offset. `subject` names it: "rope_scaling.factor".
  Status error(StatusCode code, std::string subject, std::string message) const;
  /// "got <value, cut>, need <need>".
  Status wrong(std::string subject, std::string_view need) const;

 private:
  friend class JsonText;
  JsonValue(const json_detail::Document* document, uint32_t at) : document_(document), at_(at) {}
  char at(uint32_t place) const { return document_->text[place]; }
  uint32_t skip_space(uint32_t place) const;
  uint32_t end_of_value(uint32_t place) const;
  /// The key at `place`; decoded into `scratch` only where it has escapes. Moves `place` to the value.
  std::string_view take_key(uint32_t* place, std::string* scratch) const;
  /// From behind a value to the next one or its key; false at the end of the container.
  bool next(uint32_t* place) const;
  /// The first item or key of a container; false when it is empty.
  bool first(uint32_t* place) const;

  const json_detail::Document* document_;
  uint32_t at_;
};

/// The document. Movable; values stay valid.
class JsonText {
 public:
  /// Checks that `text` is one JSON value in valid UTF-8, strictly as RFC 8259 has it: no key twice in an object, no lone surrogate,
  /// nesting to kJsonMaxDepth. `file` and `file_offset` say where the text is from. Linear time, but for sorting the keys of an object; 8
  /// bytes a key of the open objects. Errors: kCorruptFile with the offset; kUnsupported beyond kJsonMaxBytes.
  static Result<JsonText> parse(std::string text, std::string file, uint64_t file_offset = 0);

  JsonValue root() const { return JsonValue(document_.get(), root_); }
  const std::string& file() const { return document_->file; }
  uint64_t bytes() const { return document_->text.size(); }

 private:
  std::unique_ptr<const json_detail::Document> document_;
  uint32_t root_ = 0;
};

template <typename Visit>
Status JsonValue::each_member(const Visit& visit) const {
  std::string scratch;
  uint32_t place = at_;
  for (bool more = first(&place); more; more = next(&place)) {
    const std::string_view key = take_key(&place, &scratch);
    OTR_TRY(visit(key, JsonValue(document_, place)));
    place = end_of_value(place);
  }
  return {};
}

template <typename Visit>
Status JsonValue::each_item(const Visit& visit) const {
  uint32_t place = at_;
  for (bool more = first(&place); more; more = next(&place)) {
    OTR_TRY(visit(JsonValue(document_, place)));
    place = end_of_value(place);
  }
  return {};
}

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_IO_JSON_TEXT_H_
