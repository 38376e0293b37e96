// The catalogue of malformed models: reading it, and comparing an error with it.
#include "tests/support/bad_gguf.h"

#include <fstream>
#include <sstream>

#include "tests/support/catch.h"

namespace outrigger {
namespace {

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
  return parts;
}

}  // namespace

std::vector<BadGguf> bad_ggufs(const std::string& folder, std::string_view level) {
  std::ifstream catalogue(folder + "/catalogue.tsv");
  std::vector<BadGguf> rows;
  for (std::string line; std::getline(catalogue, line);) {
    const std::vector<std::string> fields = split(line, '\t');
    INFO(line);
    REQUIRE(fields.size() == 5);
    if (fields[1] == level) rows.push_back({folder + "/" + fields[0], fields[1], fields[2], fields[3], fields[4]});
  }
  INFO(folder);
  REQUIRE_FALSE(rows.empty());
  return rows;
}

std::string difference(const BadGguf& want, const Status& got) {
  const std::string code = status_code_name(got.code()), shown = got.to_string();
  if (code != want.code) return "code is " + code + ", not " + want.code + ": " + shown;
  bool found = false;
  for (const std::string& text : split(want.text, '|')) found = found || shown.find(text) != std::string::npos;
  if (!found) return "\"" + want.text + "\" is not in: " + shown;
  if (shown.find('\n') != std::string::npos) return "more than one line: " + shown;
  const uint64_t offset = got.byte_offset();
  const bool offset_fits = want.offset == "-" || (want.offset == "*" ? offset != 0 : want.offset == std::to_string(offset));
  return offset_fits ? "" : "offset is " + std::to_string(offset) + ", not " + want.offset + ": " + shown;
}

}  // namespace outrigger
