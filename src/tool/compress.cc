// outrigger compress: a model in few bits, by what its layers' inputs are on a text.
#include <fmt/format.h>
#include <outrigger/compress.h>

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "src/tool/command_line.h"
#include "src/tool/commands.h"
#include "src/tool/files.h"
#include "src/tool/interrupt.h"
#include "src/tool/loading.h"
#include "src/tool/report.h"

namespace outrigger::tool {
namespace {

struct CompressCommandOptions {
  CommonOptions common;
  std::string model, output, bits = "4";
  std::vector<std::string> calibration;
  uint32_t chunk_tokens = 512, chunks = 32;
  std::map<std::string, std::string> later;  // options of the contract that this version refuses by name
};

constexpr const char* kLater[] = {"--branch-budget", "--branch-reads", "--form", "--allocate", "--method", "--polish", "--max-slowdown", "--report"};

// Whole chunks of every text in turn, so that each has its share of what is used.
Result<std::vector<Token>> read_calibration(const CompressCommandOptions& options, const Tokenizer& tokenizer) {
  std::vector<std::vector<Token>> texts;
  for (const std::string& file : options.calibration) {
    const auto text = read_file(file);
    if (!text.is_ok()) return text.status();
    auto tokens = tokenizer.encode(text.value(), {.add_special = true, .parse_special = false});
    if (!tokens.is_ok()) return tokens.status();
    if (tokens->size() < options.chunk_tokens) {
      return Status(StatusCode::kInvalidArgument,
                    fmt::format("the text has {} tokens, need {} for one chunk; give a longer text or a smaller --ctx", tokens->size(), options.chunk_tokens))
          .in_file(file);
    }
    texts.push_back(std::move(tokens).value());
  }
  const size_t of_each = (options.chunks + texts.size() - 1) / texts.size();
  std::vector<Token> all;
  for (const std::vector<Token>& text : texts) {
    const size_t there = text.size() / options.chunk_tokens, used = std::min(there, of_each);
    for (size_t i = 0; i < used; ++i) {
      const auto begin = text.begin() + static_cast<ptrdiff_t>(i * there / used * options.chunk_tokens);
      all.insert(all.end(), begin, begin + options.chunk_tokens);
    }
  }
  return all;
}

Status write_report(const CompressCommandOptions& options, const CompressReport& report, double seconds) {
  const double bits = static_cast<double>(report.backbone_bytes) * 8 / static_cast<double>(report.backbone_weights);
  if (options.common.json) {
    return write_json({{"file", options.output},
                       {"bytes", {{"input", report.input_bytes}, {"output", report.output_bytes}, {"backbone", report.backbone_bytes}, {"branches", 0}, {"branch_reads_per_token", 0}}},
                       {"bits_per_weight", {{"backbone", bits}, {"branches", 0}, {"branch_reads", 0}}},
                       {"calibration_tokens", report.calibration_tokens},
                       {"seconds", seconds}});
  }
  return write_out(fmt::format("{}: {} from {}; {} of them layers at {:.2f} bits a weight, by {} tokens, in {:.0f} s\n", options.output,
                               format_size(report.output_bytes), format_size(report.input_bytes), format_size(report.backbone_bytes), bits,
                               report.calibration_tokens, seconds));
}

Status compress(const CompressCommandOptions& options) {
  apply_log_level(options.common);
  if (options.bits != "2" && options.bits != "3" && options.bits != "4") return not_there_yet(fmt::format("--bits {}", options.bits), "use 2, 3 or 4");
  for (const auto& [name, value] : options.later) {
    if (!value.empty()) return not_there_yet(fmt::format("{} {}", name, value), "leave it out");
  }
  auto model = open_runnable(options.model, options.common);
  if (!model.is_ok()) return model.status();
  const auto tokenizer = model->tokenizer();
  if (!tokenizer.is_ok()) return tokenizer.status();
  const auto calibration = read_calibration(options, tokenizer.value());
  if (!calibration.is_ok()) return calibration.status();
  const Stopwatch watch;
  const Interruptible interruptible;
  ProgressLine progress(options.common.progress, "compressing");
  CompressOptions compress_options;
  compress_options.bits = options.bits[0] - '0';
  compress_options.chunk_tokens = options.chunk_tokens;
  compress_options.most_chunks = options.chunks;
  compress_options.threads = options.common.threads;
  compress_options.progress = progress.callback();
  compress_options.cancel = interrupt_token();
  const auto report = compress_model(model.value(), calibration.value(), options.output, compress_options);
  if (!report.is_ok()) return report.status();
  return write_report(options, report.value(), watch.ms() / 1e3);
}

}  // namespace

void add_compress(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("compress", "Make a low-bit model");
  auto options = std::make_shared<CompressCommandOptions>();
  add_model(*command, options->model);
  command->add_option("-o,--output", options->output, "The file to write; it appears complete or not at all")->required()->type_name("FILE");
  command->add_option("--bits", options->bits, "Bits of a weight: 2, 3 or 4. Scales take half a bit more")->type_name("N")->capture_default_str();
  command->add_option("--calibration", options->calibration, "A text like those that the model is for; may be given several times, for mixed use")
      ->required()
      ->type_name("TEXT");
  command->add_option("--ctx", options->chunk_tokens, "Tokens of a chunk of the text")->capture_default_str()->check(CLI::Range(16, 65536));
  command->add_option("--chunks", options->chunks, "Chunks that are used, spread evenly over the texts")->capture_default_str()->check(CLI::Range(1, 65536));
  for (const char* name : kLater) command->add_option(name, options->later[name], "Not there yet")->group("Not there yet");
  add_common_options(*command, options->common, Shows::kOutputOnly);
  command->footer(
      "The file opens like any model. Branches that correct it are not there yet.\n"
      "Examples:\n"
      "  outrigger compress model.gguf -o small.gguf --bits 3 --calibration book.txt --calibration chats.txt\n"
      "  outrigger eval small.gguf --reference model.gguf --text other.txt\n");
  command->callback([&action, options] { action = [options] { return compress(*options); }; });
}

}  // namespace outrigger::tool
