// Reads single settings of a model's metadata.
#include "src/model/config_reader.h"

#include <cfloat>

#include "src/base/formatted.h"
#include "src/base/macros.h"

namespace outrigger {

std::string ConfigReader::key(std::string_view name) const { return formatted("{}.{}", architecture_, name); }

Status ConfigReader::bad(std::string_view name, const std::string& got, const std::string& need) const {
  return Status(StatusCode::kCorruptFile, formatted("{}: got {}, need {}", key(name), got, need))
      .in_file(file_.source().name())
      .about(key(name));
}

Result<uint64_t> ConfigReader::size(std::string_view name, uint64_t least, uint64_t most) const {
  OTR_ASSIGN(const GgufValue* value, file_.require(key(name)));
  if (value->type() == GgufType::kArray) {
    return Status(StatusCode::kUnsupported, formatted("{} differs by layer, which this version does not compute", key(name)))
        .about(key(name));
  }
  OTR_ASSIGN(const uint64_t n, value->as_u64());
  if (n < least || n > most) return bad(name, formatted("{}", n), formatted("{} to {}", least, most));
  return n;
}

Result<uint64_t> ConfigReader::size_or(std::string_view name, uint64_t absent, uint64_t least, uint64_t most) const {
  if (find(name) == nullptr) return absent;
  return size(name, least, most);
}

Result<double> ConfigReader::positive(std::string_view name) const {
  OTR_ASSIGN(const GgufValue* value, file_.require(key(name)));
  OTR_ASSIGN(const double number, value->as_f64());
  if (!(number > 0 && number <= FLT_MAX)) return bad(name, formatted("{}", number), "a positive, finite number");
  return number;
}

Result<double> ConfigReader::positive_or(std::string_view name, double absent) const {
  if (find(name) == nullptr) return absent;
  return positive(name);
}

Result<bool> ConfigReader::flag_or(std::string_view name, bool absent) const {
  const GgufValue* value = find(name);
  if (value == nullptr) return absent;
  return value->as_bool();
}

Status ConfigReader::only(std::string_view name, double neutral) const {
  const GgufValue* value = find(name);
  if (value == nullptr) return {};
  OTR_ASSIGN(const double number, value->as_f64());
  if (number == neutral) return {};
  return unsupported(name, formatted("{} is {}, which this version does not compute (only {})", key(name), number, neutral));
}

Status ConfigReader::at_most(std::string_view name, uint64_t most) const {
  OTR_ASSIGN(const uint64_t n, size_or(name, 0, 0, UINT64_MAX));
  if (n <= most) return {};
  return unsupported(name, formatted("{} is {}, which this version does not compute (at most {})", key(name), n, most));
}

Status ConfigReader::unsupported(std::string_view name, std::string message) const {
  return Status(StatusCode::kUnsupported, std::move(message)).in_file(file_.source().name()).about(key(name));
}

}  // namespace outrigger
