// HfFields: the members of a settings object by type and range; what is wrong names the key.
#ifndef OUTRIGGER_SRC_MODEL_HF_FIELDS_H_
#define OUTRIGGER_SRC_MODEL_HF_FIELDS_H_

#include <outrigger/status.h>

#include <cmath>
#include <optional>
#include <string>
#include <string_view>

#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/io/json_text.h"

namespace outrigger {

/// Null counts as absent everywhere: that is how these files write "no such thing".
class HfFields {
 public:
  /// `path` begins the keys in messages: "" or "rope_scaling.".
  explicit HfFields(JsonValue object, std::string path = "") : object_(object), path_(std::move(path)) {}

  std::string name(std::string_view key) const { return path_ + std::string(key); }
  std::optional<JsonValue> find(std::string_view key) const { return object_.find_value(key); }
  JsonValue object() const { return object_; }

  Result<uint64_t> size(std::string_view key, uint64_t least, uint64_t most) const {
    const std::optional<JsonValue> value = find(key);
    if (!value) return missing(key);
    const std::optional<uint64_t> number = value->whole();
    if (!number || *number < least || *number > most)
      return value->wrong(name(key), formatted("a whole number from {} to {}", least, most));
    return *number;
  }
  Result<uint64_t> size_or(std::string_view key, uint64_t absent, uint64_t least, uint64_t most) const {
    return find(key) ? size(key, least, most) : Result<uint64_t>(absent);
  }
  Result<double> positive(std::string_view key) const {
    const std::optional<JsonValue> value = find(key);
    if (!value) return missing(key);
    const std::optional<double> number = value->number();
    if (!number || !(*number > 0)) return value->wrong(name(key), "a positive, finite number");
    return *number;
  }
  Result<double> positive_or(std::string_view key, double absent) const { return find(key) ? positive(key) : Result<double>(absent); }
  Result<bool> flag_or(std::string_view key, bool absent) const {
    const std::optional<JsonValue> value = find(key);
    if (!value) return absent;
    const std::optional<bool> flag = value->boolean();
    if (!flag) return value->wrong(name(key), "true or false");
    return *flag;
  }
  Result<std::string> text_or(std::string_view key, std::string absent) const {
    const std::optional<JsonValue> value = find(key);
    if (!value) return absent;
    const std::optional<std::string> text = value->string();
    if (!text) return value->wrong(name(key), "a string");
    return *text;
  }
  Status missing(std::string_view key) const {
    return object_.error(StatusCode::kCorruptFile, name(key), formatted("{} is missing", name(key)));
  }

 private:
  JsonValue object_;
  std::string path_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_HF_FIELDS_H_
