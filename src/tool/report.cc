// Results, errors, exit codes.
#include "src/tool/report.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>

#include "src/tool/interrupt.h"

namespace outrigger::tool {
namespace {

// A name from a file may hold anything; an error stays one line whatever it is.
std::string one_line(std::string_view text) {
  std::string line;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      line += fmt::format("\\x{:02x}", byte);
    } else {
      line += c;
    }
  }
  return line;
}

}  // namespace

Status write_out(std::string_view text) {
  errno = 0;
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
  if (written) return Status();
  return Status(StatusCode::kIo, fmt::format("standard output took no more: {}", std::strerror(errno)));
}

Status write_json(const Json& document) { return write_out(document.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"); }

void write_err(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

void say(std::string_view line) { write_err("outrigger: " + one_line(line) + "\n"); }

Json error_document(const Status& status) {
  Json error = {{"code", static_cast<int>(status.code())}, {"name", status_code_name(status.code())}, {"message", status.message()}};
  if (status.code() == StatusCode::kBudget) {
    error["needed_bytes"] = status.needed_bytes();
    error["given_bytes"] = status.given_bytes();
    error["minimum_bytes"] = status.needed_bytes();
  }
  if (!status.file().empty()) error["file"] = status.file();
  if (!status.subject().empty()) error["subject"] = status.subject();
  if (status.code() == StatusCode::kCorruptFile || status.byte_offset() != 0) error["byte_offset"] = status.byte_offset();
  return {{"error", error}};
}

int report_failure(const Status& status, bool json) {
  say(status.to_string());
  if (json) (void)write_json(error_document(status)).is_ok();
  return was_interrupted() ? kExitInterrupted : static_cast<int>(status.code());
}

int report_usage(const std::string& message, const std::string& hint, bool json) {
  say(message + "; " + hint);
  if (json) (void)write_json({{"error", {{"code", kExitUsage}, {"name", "USAGE"}, {"message", message}}}}).is_ok();
  return kExitUsage;
}

Status not_there_yet(std::string_view what, std::string_view instead) {
  return Status(StatusCode::kUnsupported, fmt::format("{} is not there yet in this version; {}", what, instead));
}

}  // namespace outrigger::tool
