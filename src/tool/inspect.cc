// outrigger inspect: what a model file is, from its header alone.
#include <fmt/format.h>

#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "src/tool/command_line.h"
#include "src/tool/commands.h"
#include "src/tool/loading.h"
#include "src/tool/report.h"

namespace outrigger::tool {
namespace {

struct InspectOptions {
  CommonOptions common;
  std::string model;
  bool list_tensors = false;
};

struct TypeTotal {
  uint64_t count = 0, parameters = 0, bytes = 0;
};

std::map<std::string, TypeTotal> totals_by_type(const std::vector<TensorInfo>& tensors) {
  std::map<std::string, TypeTotal> totals;
  for (const TensorInfo& tensor : tensors) {
    uint64_t elements = 1;
    for (const uint64_t length : tensor.shape) elements *= length;
    TypeTotal& total = totals[tensor.type];
    ++total.count;
    total.parameters += elements;
    total.bytes += tensor.bytes;
  }
  return totals;
}

Json to_json(const ModelInfo& info, const std::vector<TensorInfo>& tensors, bool list_tensors) {
  Json by_type = Json::object();
  for (const auto& [type, total] : totals_by_type(tensors)) {
    by_type[type] = {{"count", total.count}, {"parameters", total.parameters}, {"bytes", total.bytes}};
  }
  Json document = {{"file", info.file},
                   {"name", info.name},
                   {"architecture", info.architecture},
                   {"parameters", info.parameters},
                   {"bytes", info.bytes},
                   {"bits_per_weight", info.bits_per_weight},
                   {"context_tokens", info.context_tokens},
                   {"layers", info.layers},
                   {"heads", info.heads},
                   {"kv_heads", info.kv_heads},
                   {"head_dim", info.head_dim},
                   {"width", info.width},
                   {"ffn_width", info.ffn_width},
                   {"vocabulary_tokens", info.vocabulary_tokens},
                   {"tokenizer", info.tokenizer},
                   {"chat_template", info.chat_template},
                   {"tensors_by_type", by_type},
                   {"packed", info.is_packed},
                   {"can_run", info.can_run},
                   {"why_not", info.why_not}};
  if (list_tensors) {
    Json& list = document["tensors"] = Json::array();
    for (const TensorInfo& tensor : tensors) {
      list.push_back({{"name", tensor.name},
                      {"type", tensor.type},
                      {"shape", tensor.shape},
                      {"packed", tensor.is_packed},
                      {"bytes", tensor.bytes},
                      {"file_offset", tensor.file_offset},
                      {"file", tensor.file}});
    }
  }
  return document;
}

std::string to_text(const ModelInfo& info, const std::vector<TensorInfo>& tensors, bool list_tensors) {
  std::string text;
  const auto line = [&text](std::string_view what, std::string_view value) {
    text += fmt::format("{:<14}{}\n", what, value.empty() ? "none" : value);
  };
  line("file", fmt::format("{} ({})", info.file, format_size(info.bytes)));
  if (!info.name.empty()) line("name", info.name);
  line("architecture", info.architecture);
  line("parameters", fmt::format("{:.1f} million, {:.2f} bits each", static_cast<double>(info.parameters) / 1e6, info.bits_per_weight));
  line("context", fmt::format("{} tokens", info.context_tokens));
  line("layers", fmt::format("{} of width {}, feed-forward {}", info.layers, info.width, info.ffn_width));
  line("heads", fmt::format("{} of {}, {} for keys and values", info.heads, info.head_dim, info.kv_heads));
  line("tokenizer", info.tokenizer.empty() ? "" : fmt::format("{}, {} tokens", info.tokenizer, info.vocabulary_tokens));
  line("chat template", info.chat_template);
  if (info.is_packed) line("packed", "yes: what streams needs no packing; types are those of the weights that were packed");
  line("can run", info.can_run ? "yes" : fmt::format("no: {}", info.why_not));
  const auto totals = totals_by_type(tensors);
  if (!totals.empty()) text += fmt::format("\n{:<8} {:>8} {:>12} {:>12}\n", "type", "tensors", "parameters", "bytes");
  for (const auto& [type, total] : totals) {
    text += fmt::format("{:<8} {:>8} {:>12} {:>12}\n", type, total.count, total.parameters, format_size(total.bytes));
  }
  if (!list_tensors) return text;
  text += "\n";
  for (const TensorInfo& tensor : tensors) {
    text += fmt::format("{:<40} {:<8} {:>12} [{}] at {}{}\n", tensor.name, tensor.type, format_size(tensor.bytes),
                        fmt::join(tensor.shape, ", "), tensor.file_offset, tensor.is_packed ? ", packed" : "");
  }
  return text;
}

Status inspect(const InspectOptions& options) {
  apply_log_level(options.common);
  if (Status status = check_trace(options.common, false); !status.is_ok()) return status;
  const auto model = open_model(options.model, options.common);
  if (!model.is_ok()) return model.status();
  const ModelInfo& info = model.value().info();
  const std::vector<TensorInfo> tensors = model.value().tensors();
  if (options.common.json) return write_json(to_json(info, tensors, options.list_tensors));
  return write_out(to_text(info, tensors, options.list_tensors));
}

}  // namespace

void add_inspect(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("inspect", "What a model file is, from its header");
  auto options = std::make_shared<InspectOptions>();
  add_model(*command, options->model);
  command->add_flag("--tensors", options->list_tensors, "List every tensor");
  add_common_options(*command, options->common, Shows::kOutputOnly);
  command->footer(
      "Examples:\n"
      "  outrigger inspect model.gguf\n"
      "  outrigger inspect model.gguf --json | jq .can_run\n");
  command->callback([&action, options] { action = [options] { return inspect(*options); }; });
}

}  // namespace outrigger::tool
