// The `outrigger` command.
#include <fmt/format.h>
#include <outrigger/build_info.h>

#include <algorithm>
#include <exception>
#include <memory>
#include <new>
#include <nlohmann/json.hpp>
#include <string_view>

#include "src/tool/command_line.h"
#include "src/tool/commands.h"
#include "src/tool/interrupt.h"
#include "src/tool/report.h"

namespace outrigger::tool {
namespace {

constexpr const char* kFooter =
    "Exit codes: 0 ok, 2 usage, 10 invalid argument, 11 not found, 12 corrupt file, 13 unsupported,\n"
    "14 unavailable, 15 budget, 16 out of memory, 17 input/output, 18 device, 19 cancelled, 20 internal,\n"
    "130 after Ctrl-C.\n"
    "'outrigger COMMAND --help' tells a command's options, with examples.\n";

// Names and what they take; what an option excludes or defaults to is said in its description, where it matters.
class HelpFormatter : public CLI::Formatter {
 public:
  std::string make_option_opts(const CLI::Option* option) const override {
    const std::string type = option->get_type_size() == 0 ? "" : option->get_type_name();
    return type.empty() ? "" : " " + type;
  }
};

Status print_version(bool json) {
  const BuildInfo info = build_info();
  if (json) {
    return write_json({{"version", info.version},
                       {"c_abi", info.c_abi},
                       {"build", {{"compiler", info.compiler}, {"simd", info.simd_built}, {"cuda", info.cuda}}},
                       {"simd_in_use", info.simd_in_use},
                       {"usable_cores", info.usable_cores}});
  }
  std::string levels;
  for (const std::string& level : info.simd_built) levels += (levels.empty() ? "" : ", ") + level;
  return write_out(fmt::format("outrigger {}\nC ABI {}, {}, SIMD built: {}; in use: {}; CUDA: {}; cores: {}\n", info.version, info.c_abi,
                               info.compiler, levels, info.simd_in_use, info.cuda ? "yes" : "no", info.usable_cores));
}

// Before the line is parsed, and when it cannot be, this is all there is to know where an error is to go.
bool asks_for_json(int argc, char** argv) {
  return std::any_of(argv + 1, argv + argc, [](const char* argument) { return std::string_view(argument) == "--json"; });
}

int run_tool(int argc, char** argv) {
  CLI::App app("Runs language models under memory budgets smaller than the model.", "outrigger");
  app.footer(kFooter);
  app.require_subcommand(0, 1);
  app.formatter(std::make_shared<HelpFormatter>());
  app.get_formatter()->column_width(34);
  bool version = false, version_json = false;
  app.add_flag("--version", version, "Print the version, and with --json how it was built");
  app.add_flag("--json", version_json, "One JSON document on stdout");
  Action action;
  add_run(app, action);
  add_plan(app, action);
  add_inspect(app, action);
  add_tokenize(app, action);
  add_profile(app, action);
  add_eval(app, action);
  add_bench(app, action);
  add_pack(app, action);
  add_compress(app, action);
  add_export(app, action);

  try {
    app.parse(argc, argv);
  } catch (const CLI::Success&) {
    const auto asked = app.get_subcommands();
    const Status status = write_out(asked.empty() ? app.help() : asked.front()->help("outrigger"));
    return status.is_ok() ? 0 : report_failure(status, false);
  } catch (const CLI::ParseError& error) {
    const auto asked = app.get_subcommands();
    const std::string command = asked.empty() ? "outrigger" : "outrigger " + asked.front()->get_name();
    return report_usage(error.what(), fmt::format("see '{} --help'", command), asks_for_json(argc, argv));
  }
  if (version) action = [version_json] { return print_version(version_json); };
  if (!action) return report_usage("got no command, need one", "see 'outrigger --help'", version_json);

  const Status status = action();
  if (!status.is_ok()) return report_failure(status, asks_for_json(argc, argv));
  return was_interrupted() ? kExitInterrupted : 0;
}

}  // namespace
}  // namespace outrigger::tool

int main(int argc, char** argv) {
  using outrigger::Status;
  using outrigger::StatusCode;
  namespace tool = outrigger::tool;
  tool::install_signal_handlers();
  try {
    return tool::run_tool(argc, argv);
  } catch (const std::bad_alloc&) {
    return tool::report_failure(Status(StatusCode::kOutOfMemory, "the system refused memory"), tool::asks_for_json(argc, argv));
  } catch (const std::exception& error) {
    return tool::report_failure(Status(StatusCode::kInternal, error.what()), tool::asks_for_json(argc, argv));
  }
}
