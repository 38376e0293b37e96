// JsonFields: reads fields out of a JSON object by type, and names the field when it cannot.
#ifndef OUTRIGGER_SRC_BASE_JSON_FIELDS_H_
#define OUTRIGGER_SRC_BASE_JSON_FIELDS_H_

#include <outrigger/status.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "src/base/formatted.h"

namespace outrigger {

/// What an enumeration's values are called.
template <typename Enum, size_t kCount>
using JsonNames = std::array<std::pair<const char*, Enum>, kCount>;

/// One object of a document, which must outlive it. Strict: a field must be there and of its type; fields it is not asked for are
/// ignored, so that old readers take new documents. Every failure is kInvalidArgument with the field's path as the subject.
class JsonFields {
 public:
  /// Precondition: `object` is one. `document` begins the messages; `path` is "" or ends with a dot.
  JsonFields(std::string document, std::string path, const nlohmann::json& object)
      : document_(std::move(document)), path_(std::move(path)), object_(&object) {}

  bool has(const char* name) const { return find(name) != nullptr; }

  Status read(const char* name, uint64_t* value) const {
    const nlohmann::json* field = find(name);
    if (!field || !field->is_number_unsigned()) return wrong(name, field, "a whole number of at least 0");
    *value = field->get<uint64_t>();
    return {};
  }
  Status read(const char* name, uint32_t* value) const {
    const nlohmann::json* field = find(name);
    constexpr uint64_t kMost = std::numeric_limits<uint32_t>::max();
    if (!field || !field->is_number_unsigned() || field->get<uint64_t>() > kMost)
      return wrong(name, field, "a whole number from 0 to 4294967295");
    *value = field->get<uint32_t>();
    return {};
  }
  Status read(const char* name, double* value) const {
    const nlohmann::json* field = find(name);
    if (!field || !field->is_number() || !std::isfinite(field->get<double>())) return wrong(name, field, "a number");
    *value = field->get<double>();
    return {};
  }
  Status read(const char* name, bool* value) const {
    const nlohmann::json* field = find(name);
    if (!field || !field->is_boolean()) return wrong(name, field, "true or false");
    *value = field->get<bool>();
    return {};
  }
  Status read(const char* name, std::string* value) const {
    const nlohmann::json* field = find(name);
    if (!field || !field->is_string()) return wrong(name, field, "a string");
    *value = field->get_ref<const std::string&>();
    return {};
  }
  template <typename Enum, size_t kCount>
  Status read_name(const char* name, const JsonNames<Enum, kCount>& names, Enum* value) const {
    const nlohmann::json* field = find(name);
    std::string list;
    for (const auto& [text, meaning] : names) {
      if (field && field->is_string() && field->get_ref<const std::string&>() == text) return *value = meaning, Status();
      list += (list.empty() ? "\"" : ", \"") + std::string(text) + "\"";
    }
    return wrong(name, field, "one of " + list);
  }

  Result<JsonFields> object(const char* name) const {
    const nlohmann::json* field = find(name);
    if (!field || !field->is_object()) return wrong(name, field, "an object");
    return JsonFields(document_, path_ + name + ".", *field);
  }
  /// Calls visit(JsonFields) -> Status for each object of an array, until one fails.
  template <typename Visit>
  Status each(const char* name, Visit visit) const {
    const nlohmann::json* field = find(name);
    if (!field || !field->is_array()) return wrong(name, field, "an array of objects");
    for (size_t i = 0; i < field->size(); ++i) {
      const std::string item = formatted("{}[{}]", name, i);
      if (!(*field)[i].is_object()) return wrong(item, &(*field)[i], "an object");
      if (Status status = visit(JsonFields(document_, path_ + item + ".", (*field)[i])); !status.is_ok()) return status;
    }
    return {};
  }

 private:
  const nlohmann::json* find(const char* name) const {
    const auto at = object_->find(name);
    return at == object_->end() ? nullptr : &*at;
  }
  Status wrong(const std::string& name, const nlohmann::json* field, const std::string& need) const {
    std::string got = field ? field->dump(-1, ' ', true, nlohmann::json::error_handler_t::replace) : "nothing";
    if (got.size() > 40) got = got.substr(0, 37) + "...";
    return Status(StatusCode::kInvalidArgument, document_ + ": field " + path_ + name + ": got " + got + ", need " + need)
        .about(path_ + name);
  }

  std::string document_, path_;
  const nlohmann::json* object_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_BASE_JSON_FIELDS_H_
