// What the tool says: results on stdout, everything else as single lines on stderr, and the exit code.
#ifndef OUTRIGGER_SRC_TOOL_REPORT_H_
#define OUTRIGGER_SRC_TOOL_REPORT_H_

#include <outrigger/status.h>

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace outrigger::tool {

using Json = nlohmann::ordered_json;  ///< keeps the order in which fields are documented

constexpr int kExitUsage = 2;

/// Writes all of `text` to stdout and flushes it. Errors: kIo: a closed pipe, a full disk.
Status write_out(std::string_view text);
/// One document and a newline; bytes that are no UTF-8 become U+FFFD. Errors: those of write_out.
Status write_json(const Json& document);

/// "outrigger: <line>" on stderr, control characters made visible. Failures are ignored: there is nowhere left to say so.
void say(std::string_view line);
/// `text` on stderr as it is.
void write_err(std::string_view text);

/// {"error":{...}} as the contract has it.
Json error_document(const Status& status);
/// Says what went wrong, with `json` also as a document on stdout; returns the exit code.
int report_failure(const Status& status, bool json);
/// The same for a command line that cannot be understood; `hint` names the help to read.
int report_usage(const std::string& message, const std::string& hint, bool json);

/// A refusal of something that the contract has and this version has not.
Status not_there_yet(std::string_view what, std::string_view instead);

}  // namespace outrigger::tool

#endif  // OUTRIGGER_SRC_TOOL_REPORT_H_
