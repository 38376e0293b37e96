// Commands of the contract that this version refuses by name.
#include <fmt/format.h>

#include "src/tool/command_line.h"
#include "src/tool/commands.h"
#include "src/tool/report.h"

namespace outrigger::tool {

void add_later_commands(CLI::App& app, Action& action) {
  for (const auto& [name, help] : {std::pair<const char*, const char*>{"export", "Write ordinary files for other engines (not there yet)"}}) {
    CLI::App* command = app.add_subcommand(name, help);
    command->allow_extras();
    command->callback([&action, name = std::string(name)] {
      action = [name] { return not_there_yet(fmt::format("the command {}", name), "see 'outrigger --help' for those that are"); };
    });
  }
}

}  // namespace outrigger::tool
