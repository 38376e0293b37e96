// outrigger compress: a model in few bits, by what its layers' inputs are on a text.
#include <fmt/format.h>
#include <outrigger/compress.h>
#include <outrigger/sizes.h>

#include <charconv>
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
#include "src/tool/own_text.h"
#include "src/tool/report.h"

namespace outrigger::tool {
namespace {

// What a budget for branches is spent on.
enum class BranchForm { kAuto, kLowRank, kSparse };

struct CompressCommandOptions {
  CommonOptions common;
  std::string model, output, bits = "4", branch_budget = "0", branch_reads = "0", polish = "auto";
  BranchForm form = BranchForm::kAuto;
  BranchAllocation allocation = BranchAllocation::kMeasured;
  BranchMethod method = BranchMethod::kWeighed;
  std::vector<std::string> calibration;
  uint32_t chunk_tokens = 512, chunks = 32;
  std::string report_file;
  bool no_resume = false;
  std::map<std::string, std::string> later;  // options of the contract that this version refuses by name
};

constexpr const char* kLater[] = {"--max-slowdown"};

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

// "3", or "mixed:2.8".
Status read_bits(const std::string& text, CompressOptions* options) {
  constexpr std::string_view kMixed = "mixed:";
  if (text == "2" || text == "3" || text == "4") {
    options->bits = text[0] - '0';
    return Status();
  }
  const char* const end = text.data() + text.size();
  if (text.starts_with(kMixed)) {
    const auto [rest, error] = std::from_chars(text.data() + kMixed.size(), end, options->mixed_bits, std::chars_format::fixed);
    if (error == std::errc() && rest == end && options->mixed_bits >= 2.5 && options->mixed_bits <= 4.5) return Status();
  }
  return Status(StatusCode::kInvalidArgument, fmt::format("--bits: got \"{}\", need 2, 3, 4, or mixed:2.5 to mixed:4.5 stored bits a weight", text));
}

// A size, bits for each weight of the matrices that can have branches ("0.8bpw"), or a share of their bytes ("10%"): of a mixture the experts have none.
Result<uint64_t> read_bytes(const char* name, const std::string& text, const Model& model, double stored_bits) {
  auto shape = model.step_shape();
  if (!shape.is_ok()) return shape.status();
  double weights = 0;
  for (const MatrixShape& matrix : shape->matrices) {
    if (matrix.use == MatrixUse::kEveryToken) weights += static_cast<double>(matrix.rows) * static_cast<double>(matrix.columns);
  }
  if (text.ends_with("bpw")) {
    double bits_each = -1;
    const char* const end = text.data() + text.size() - 3;
    const auto [rest, error] = std::from_chars(text.data(), end, bits_each, std::chars_format::fixed);
    if (error != std::errc() || rest != end || !(bits_each >= 0 && bits_each <= 32)) {
      return Status(StatusCode::kInvalidArgument, fmt::format("{}: got \"{}\", need 0 to 32 bits for each weight, such as 0.4bpw", name, text));
    }
    return static_cast<uint64_t>(weights * bits_each / 8);
  }
  auto size = parse_size(text);
  if (!size.is_ok()) return Status(StatusCode::kInvalidArgument, fmt::format("{}: got \"{}\", need a size (8MiB), bits for each weight (0.4bpw), a share of the backbone (10%) or 0", name, text));
  return size->share > 0 ? static_cast<uint64_t>(weights * stored_bits / 8 * size->share) : size->bytes;
}

// "auto": 50 steps, where training takes no more memory than most machines have to spare; branches of mixtures cannot be trained.
Status read_polish(const std::string& text, const Model& model, CompressOptions* options) {
  constexpr uint32_t kSteps = 50;
  constexpr double kMostBytes = 4e9;
  if (text == "auto") {
    double weights = 0;
    auto shape = model.step_shape();
    if (!shape.is_ok()) return shape.status();
    bool is_mixture = false;
    for (const MatrixShape& matrix : shape->matrices) {
      weights += static_cast<double>(matrix.rows) * static_cast<double>(matrix.columns);
      is_mixture |= matrix.use == MatrixUse::kRouted;
    }
    options->polish_steps = !is_mixture && 8 * weights <= kMostBytes ? kSteps : 0;
    return Status();
  }
  if (text == "off") return Status();
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), options->polish_steps);
  if (error == std::errc() && rest == text.data() + text.size()) return Status();
  return Status(StatusCode::kInvalidArgument, fmt::format("--polish: got \"{}\", need auto, off or a number of steps", text));
}

// Residuals restore most for what is read, and hold 4.5 bits for each weight; low-rank branches restore most for what is stored (docs/benchmarks.md), and read all of it.
Status read_branches(const CompressCommandOptions& options, const Model& model, double stored_bits, CompressOptions* result) {
  constexpr double kResidualBits = 4.5;
  const auto budget = read_bytes("--branch-budget", options.branch_budget, model, stored_bits), reads = read_bytes("--branch-reads", options.branch_reads, model, stored_bits);
  if (!budget.is_ok()) return budget.status();
  if (!reads.is_ok()) return reads.status();
  if (budget.value() == 0 && reads.value() == 0) return Status();
  const auto whole = read_bytes("", fmt::format("{}bpw", kResidualBits), model, stored_bits);
  if (!whole.is_ok()) return whole.status();
  const bool holds_residuals = budget.value() == 0 || budget.value() >= whole.value();
  const bool is_sparse = options.form == BranchForm::kSparse || (options.form == BranchForm::kAuto && reads.value() > 0 && holds_residuals);
  if (!is_sparse) {
    const uint64_t least = std::min(budget.value(), reads.value()), most = std::max(budget.value(), reads.value());
    result->branch_bytes = least > 0 ? least : most;
    return Status();
  }
  if (!holds_residuals) {
    return Status(StatusCode::kInvalidArgument, fmt::format("--branch-budget: got {}, need {} for residuals, {} bits a weight; raise it, leave it out, or use --form low-rank", format_size(budget.value()),
                                                            format_size(whole.value()), kResidualBits));
  }
  result->residual_read_bytes = reads.value() > 0 ? std::min(reads.value(), whole.value()) : whole.value();
  return Status();
}

Json survey_json(const CompressSurvey& survey) {
  if (survey.kl == 0) return {};
  Json curve = Json::array();
  for (const CompressSurvey::Point& point : survey.curve) curve.push_back({{"bytes", point.bytes}, {"restored", point.restored}});
  return {{"kl", survey.kl}, {"kl_by_kind", survey.kl_by_kind}, {"kl_by_layer", survey.kl_by_layer}, {"curve", curve}};
}

Json matrices_json(const CompressReport& report) {
  Json matrices = Json::array();
  for (const CompressedMatrixReport& matrix : report.matrices) {
    matrices.push_back({{"name", matrix.name}, {"kind", matrix.kind}, {"layer", matrix.layer}, {"rows", matrix.rows}, {"columns", matrix.columns}, {"experts", matrix.experts}, {"bits", matrix.bits}, {"rank", matrix.rank}, {"share", matrix.share},
                        {"bytes", {{"backbone", matrix.backbone_bytes}, {"branch", matrix.branch_bytes}, {"branch_reads_per_token", matrix.branch_read_bytes}}}, {"loss", matrix.loss}, {"loss_left", matrix.loss_left},
                        {"kl", matrix.kl}, {"restored", matrix.restored}});
  }
  return matrices;
}

Status write_report(const CompressCommandOptions& options, const CompressReport& report, double seconds) {
  const auto bits_each = [&report](uint64_t bytes) { return static_cast<double>(bytes) * 8 / static_cast<double>(report.backbone_weights); };
  const double bits = bits_each(report.backbone_bytes), branch_bits = bits_each(report.branch_bytes);
  if (options.common.json) {
    const Json polish = report.polish_kl_before == 0 ? Json() : Json{{"kl_before", report.polish_kl_before}, {"kl_after", report.polish_kl_after}, {"is_kept", report.is_polish_kept}};
    return write_json({{"file", options.output},
                       {"bytes", {{"input", report.input_bytes}, {"output", report.output_bytes}, {"backbone", report.backbone_bytes}, {"branches", report.branch_bytes}, {"branch_reads_per_token", report.branch_read_bytes}}},
                       {"bits_per_weight", {{"backbone", bits}, {"branches", branch_bits}, {"branch_reads", bits_each(report.branch_read_bytes)}}},
                       {"calibration_tokens", report.calibration_tokens},
                       {"resumed_windows", report.resumed_windows},
                       {"polish", polish},
                       {"survey", survey_json(report.survey)},
                       {"matrices", matrices_json(report)},
                       {"seconds", seconds}});
  }
  const std::string branches = report.branch_bytes == 0 ? "" : fmt::format(", {} of branches at {:.2f}", format_size(report.branch_bytes), branch_bits);
  return write_out(fmt::format("{}: {} from {}; {} of them layers at {:.2f} bits a weight{}, by {} tokens, in {:.0f} s\n", options.output,
                               format_size(report.output_bytes), format_size(report.input_bytes), format_size(report.backbone_bytes), bits, branches,
                               report.calibration_tokens, seconds));
}

Status compress(const CompressCommandOptions& options) {
  apply_log_level(options.common);
  CompressOptions compress_options;
  if (Status status = read_bits(options.bits, &compress_options); !status.is_ok()) return status;
  for (const auto& [name, value] : options.later) {
    if (!value.empty()) return not_there_yet(fmt::format("{} {}", name, value), "leave it out");
  }
  auto model = open_runnable(options.model, options.common);
  if (!model.is_ok()) return model.status();
  const auto tokenizer = model->tokenizer();
  if (!tokenizer.is_ok()) return tokenizer.status();
  const auto calibration = options.calibration.empty() ? own_text(model.value(), options.common, options.chunks, options.chunk_tokens) : read_calibration(options, tokenizer.value());
  if (!calibration.is_ok()) return calibration.status();
  const double stored_bits = compress_options.mixed_bits > 0 ? compress_options.mixed_bits : compress_options.bits + 0.5;
  if (Status status = read_branches(options, model.value(), stored_bits, &compress_options); !status.is_ok()) return status;
  const Stopwatch watch;
  const Interruptible interruptible;
  ProgressLine progress(options.common.progress, "compressing");
  compress_options.allocation = options.allocation;
  compress_options.method = options.method;
  if (Status status = read_polish(options.polish, model.value(), &compress_options); !status.is_ok()) return status;
  compress_options.chunk_tokens = options.chunk_tokens;
  compress_options.most_chunks = options.chunks;
  compress_options.threads = options.common.threads;
  compress_options.report_file = options.report_file;
  compress_options.resume = !options.no_resume;
  compress_options.on_resume = [](const CompressResumption& found) {
    say(fmt::format("going on after layer {} of {}{}", found.layers_done, found.layers, found.is_surveying ? " of the survey" : ""));
  };
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
  command->add_option("--bits", options->bits, "Bits of a weight: 2, 3 or 4 (scales take half a bit more), or mixed:B for B stored bits on average")->type_name("N|mixed:B")->capture_default_str();
  command->add_option("--branch-budget", options->branch_budget,
                      "Most bytes for branches that correct the matrices: a size, bits for each weight (0.4bpw), a share of the backbone (10%); 0: none")
      ->type_name("SIZE")
      ->capture_default_str();
  command->add_option("--branch-reads", options->branch_reads,
                      "Keep in host memory what the matrices lost, of which a token reads so much: a size, bits for each weight, a share of the backbone; 0: nothing")
      ->type_name("SIZE")
      ->capture_default_str();
  add_choice<BranchForm>(*command, "--form", options->form, "Low-rank branches, or residuals; auto: residuals if --branch-reads is given and they fit --branch-budget",
                         {{"auto", BranchForm::kAuto}, {"low-rank", BranchForm::kLowRank}, {"sparse", BranchForm::kSparse}});
  command->add_option("--polish", options->polish, "Train low-rank branches together by so many steps; auto: 50 where 8 bytes for each of the model's weights are less than 4 GB")
      ->type_name("auto|off|STEPS")
      ->capture_default_str();
  add_choice<BranchAllocation>(*command, "--allocate", options->allocation, "How the branches' budget is shared out: as measured, or the same rank for all",
                               {{"auto", BranchAllocation::kMeasured}, {"uniform", BranchAllocation::kUniform}});
  add_choice<BranchMethod>(*command, "--method", options->method, "How branches are found: the best for the inputs, or HCInfer's plain singular vectors (with its ranks, unless there is a budget)",
                           {{"auto", BranchMethod::kWeighed}, {"hcinfer", BranchMethod::kHcinfer}});
  command->add_option("--calibration", options->calibration, "A text like those that the model is for; may be given several times, for mixed use. Unset: what the model itself writes")
      ->type_name("TEXT");
  command->add_option("--ctx", options->chunk_tokens, "Tokens of a chunk of the text")->capture_default_str()->check(CLI::Range(16, 65536));
  command->add_option("--chunks", options->chunks, "Chunks that are used, spread evenly over the texts")->capture_default_str()->check(CLI::Range(1, 65536));
  command->add_option("--report", options->report_file, "Also write a page about what was measured, chosen and made; it appears complete or not at all")->type_name("FILE.html");
  command->add_flag("--no-resume", options->no_resume, "Neither keep what is done in FILE.progress while it is going on, nor go on from what an interrupted run left there");
  for (const char* name : kLater) command->add_option(name, options->later[name], "Not there yet")->group("Not there yet");
  add_common_options(*command, options->common, Shows::kOutputOnly);
  command->footer(
      "The file opens like any model. Interrupted or killed, the same command goes on where it was. With a budget for branches, low-rank corrections of each matrix are stored with it and computed beside it.\n"
      "Examples:\n"
      "  outrigger compress model.gguf -o small.gguf --bits 3 --calibration book.txt --calibration chats.txt\n"
      "  outrigger compress model.gguf -o small.gguf --bits 2 --branch-budget 10% --calibration book.txt\n"
      "  outrigger eval small.gguf --reference model.gguf --text other.txt\n");
  command->callback([&action, options] { action = [options] { return compress(*options); }; });
}

}  // namespace outrigger::tool
