// Small documents in the cache folder.
#include "src/tool/cached_json.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "src/tool/files.h"
#include "src/tool/profile_store.h"

namespace outrigger::tool {

Json cached_entries(const char* file, const char* field) {
  const auto text = read_file(cache_path(file));
  const Json document = text.is_ok() ? Json::parse(text.value(), nullptr, false) : Json();
  const bool is_ours = document.is_object() && document.contains(field) && document[field].is_object();
  return is_ours ? document[field] : Json::object();
}

void cache_entries(const char* file, const char* field, const Json& entries, const std::string& what) {
  const std::string path = cache_path(file);
  if (path.empty()) return;
  std::error_code ignored;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), ignored);
  const Status status = write_file(path, Json{{field, entries}}.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
  if (!status.is_ok()) say(what + " cannot be kept: " + status.to_string());
}

}  // namespace outrigger::tool
