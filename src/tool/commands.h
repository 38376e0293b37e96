// The commands: each adds itself to the command line and, when it is the one asked for, sets the action.
#ifndef OUTRIGGER_SRC_TOOL_COMMANDS_H_
#define OUTRIGGER_SRC_TOOL_COMMANDS_H_

#include <functional>

#include "src/tool/options.h"

namespace CLI {
class App;
}

namespace outrigger::tool {

void add_run(CLI::App& app, Action& action);
void add_plan(CLI::App& app, Action& action);
void add_inspect(CLI::App& app, Action& action);
void add_tokenize(CLI::App& app, Action& action);
void add_profile(CLI::App& app, Action& action);
void add_eval(CLI::App& app, Action& action);
void add_bench(CLI::App& app, Action& action);
void add_pack(CLI::App& app, Action& action);
void add_compress(CLI::App& app, Action& action);
void add_export(CLI::App& app, Action& action);

}  // namespace outrigger::tool

#endif  // OUTRIGGER_SRC_TOOL_COMMANDS_H_
