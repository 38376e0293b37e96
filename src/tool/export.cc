// outrigger export: a compressed model as files for other engines.
#include <fmt/format.h>
#include <outrigger/export_model.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "src/tool/command_line.h"
#include "src/tool/commands.h"
#include "src/tool/interrupt.h"
#include "src/tool/loading.h"
#include "src/tool/report.h"

namespace outrigger::tool {
namespace {

struct ExportCommandOptions {
  CommonOptions common;
  std::string model, backbone, adapter;
};

Status write_report(const ExportCommandOptions& options, const ExportReport& report, double seconds) {
  const bool has_adapter = !options.adapter.empty();
  if (options.common.json) {
    return write_json({{"backbone", options.backbone},
                       {"adapter", has_adapter ? Json(options.adapter) : Json()},
                       {"bytes", {{"input", report.input_bytes}, {"backbone", report.backbone_bytes}, {"adapter", report.adapter_bytes}}},
                       {"tensors", {{"recoded", report.recoded_matrices}, {"branches", report.branches}}},
                       {"adapter_error", has_adapter ? Json(report.adapter_error) : Json()},
                       {"seconds", seconds}});
  }
  std::string text = fmt::format("{}: {} from {}, {} matrices recoded, in {:.1f} s\n", options.backbone, format_size(report.backbone_bytes),
                                 format_size(report.input_bytes), report.recoded_matrices, seconds);
  if (has_adapter)
    text += fmt::format("{}: {}, {} low-rank branches; rounded by at most {:.4f} %\n", options.adapter, format_size(report.adapter_bytes),
                        report.branches, 100 * report.adapter_error);
  return write_out(text);
}

Status export_files(const ExportCommandOptions& options) {
  apply_log_level(options.common);
  auto model = open_runnable(options.model, options.common);
  if (!model.is_ok()) return model.status();
  const Stopwatch watch;
  const Interruptible interruptible;
  ProgressLine progress(options.common.progress, "exporting");
  ExportOptions export_options;
  export_options.adapter_path = options.adapter;
  export_options.progress = progress.callback();
  export_options.cancel = interrupt_token();
  const auto report = export_model(model.value(), options.backbone, export_options);
  if (!report.is_ok()) return report.status();
  if (report.value().branches > 0 && options.adapter.empty()) {
    say(fmt::format("{} low-rank branches are left out, and the backbone is worse without them; give --adapter FILE to export them",
                    report.value().branches));
  }
  return write_report(options, report.value(), watch.ms() / 1e3);
}

}  // namespace

void add_export(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("export", "Write a compressed model as files for other engines");
  auto options = std::make_shared<ExportCommandOptions>();
  add_model(*command, options->model);
  command
      ->add_option("--backbone", options->backbone,
                   "The GGUF file to write, of types that all programs read; it appears complete or not at all")
      ->required()
      ->type_name("FILE");
  command->add_option("--adapter", options->adapter, "The LoRA adapter to write, with the low-rank branches")->type_name("FILE");
  add_common_options(*command, options->common, Shows::kOutputOnly);
  command->footer(
      "MODEL is a file that 'outrigger compress' wrote. Weights have the same values in the backbone; branches are applied by the other "
      "program.\n"
      "Examples:\n"
      "  outrigger export small.gguf --backbone backbone.gguf --adapter adapter.gguf\n"
      "  llama-completion -m backbone.gguf --lora adapter.gguf -p Hello\n"
      "  outrigger export three-bits.gguf --backbone backbone.gguf\n");
  command->callback([&action, options] { action = [options] { return export_files(*options); }; });
}

}  // namespace outrigger::tool
