// outrigger pack: the same weights, as the kernels read them.
#include <fmt/format.h>
#include <outrigger/pack.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "src/tool/command_line.h"
#include "src/tool/commands.h"
#include "src/tool/interrupt.h"
#include "src/tool/loading.h"
#include "src/tool/report.h"

namespace outrigger::tool {
namespace {

struct PackCommandOptions {
  CommonOptions common;
  std::string model, output;
};

Status pack(const PackCommandOptions& options) {
  apply_log_level(options.common);
  auto model = open_runnable(options.model, options.common);
  if (!model.is_ok()) return model.status();
  const Stopwatch watch;
  {
    const Interruptible interruptible;
    ProgressLine progress(options.common.progress, "packing");
    PackOptions pack_options;
    pack_options.progress = progress.callback();
    pack_options.cancel = interrupt_token();
    if (Status status = pack_model(model.value(), options.output, pack_options); !status.is_ok()) return status;
  }
  const double seconds = watch.ms() / 1e3;

  auto packed = open_runnable(options.output, options.common);
  if (!packed.is_ok()) return packed.status();
  const auto tensors = packed->tensors();
  const auto count = std::count_if(tensors.begin(), tensors.end(), [](const TensorInfo& tensor) { return tensor.is_packed; });
  const uint64_t input_bytes = model->info().bytes, output_bytes = packed->info().bytes;
  if (options.common.json) {
    return write_json({{"file", options.output},
                       {"bytes", {{"input", input_bytes}, {"output", output_bytes}}},
                       {"tensors", {{"packed", count}, {"as_they_were", static_cast<int64_t>(tensors.size()) - count}}},
                       {"seconds", seconds}});
  }
  return write_out(fmt::format("{}: {}, {} of {} tensors packed, from {} in {:.1f} s\n", options.output, format_size(output_bytes), count,
                               tensors.size(), format_size(input_bytes), seconds));
}

}  // namespace

void add_pack(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("pack", "Store weights as the kernels read them");
  auto options = std::make_shared<PackCommandOptions>();
  add_model(*command, options->model);
  command->add_option("-o,--output", options->output, "The file to write; it appears complete or not at all")
      ->required()
      ->type_name("FILE");
  add_common_options(*command, options->common, Shows::kOutputOnly);
  command->footer(
      "The file opens like any model and gives the same text; what streams from disk needs no packing on the way.\n"
      "Examples:\n"
      "  outrigger pack model.gguf -o model.packed.gguf\n"
      "  outrigger pack Qwen3-0.6B -o qwen3.gguf && outrigger run qwen3.gguf --host-budget 512MiB -p Hello\n");
  command->callback([&action, options] { action = [options] { return pack(*options); }; });
}

}  // namespace outrigger::tool
