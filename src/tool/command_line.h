// Options that commands share, as they are written on the command line.
#ifndef OUTRIGGER_SRC_TOOL_COMMAND_LINE_H_
#define OUTRIGGER_SRC_TOOL_COMMAND_LINE_H_

#include <CLI/CLI.hpp>
#include <string>
#include <utility>
#include <vector>

#include "src/tool/options.h"

namespace outrigger::tool {

/// Which options a command's help lists; it takes them all, since scripts pass them everywhere.
enum class Shows { kMachine, kOutputOnly };
void add_common_options(CLI::App& command, CommonOptions& options, Shows shows);
/// A part that may be above the whole: "5%" or "0.05".
CLI::Option* add_share(CLI::App& command, const char* name, double& share, const char* description);
/// The MODEL argument.
void add_model(CLI::App& command, std::string& path);

/// --draft and --draft-tokens alone.
std::vector<CLI::Option*> add_draft_options(CLI::App& command, FutureOptions& options);
/// --batch and --branch, and `with_draft` the options of speculation.
void add_future_options(CLI::App& command, FutureOptions& options, bool with_draft);

/// For values with a fixed set of names.
template <typename T>
CLI::Option* add_choice(CLI::App& command, const std::string& name, T& value, const std::string& help,
                        const std::vector<std::pair<std::string, T>>& choices) {
  return command.add_option(name, value, help)->transform(CLI::CheckedTransformer(choices).description(""))->type_name([&] {
    std::string names;
    for (const auto& [choice, unused] : choices) names += (names.empty() ? "" : "|") + choice;
    return names;
  }());
}

}  // namespace outrigger::tool

#endif  // OUTRIGGER_SRC_TOOL_COMMAND_LINE_H_
