// outrigger compress: a model in few bits, by what its layers' inputs are on a text.
#include <fmt/format.h>
#include <outrigger/sizes.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "src/tool/command_line.h"
#include "src/tool/commands.h"
#include "src/tool/compress_options.h"
#include "src/tool/compress_quality.h"
#include "src/tool/compress_text.h"
#include "src/tool/interrupt.h"
#include "src/tool/loading.h"
#include "src/tool/report.h"

namespace outrigger::tool {
namespace {

Json survey_json(const CompressSurvey& survey) {
  if (survey.kl == 0) return {};
  Json curve = Json::array();
  for (const CompressSurvey::Point& point : survey.curve) curve.push_back({{"bytes", point.bytes}, {"restored", point.restored}});
  return {{"kl", survey.kl}, {"kl_by_kind", survey.kl_by_kind}, {"kl_by_layer", survey.kl_by_layer}, {"curve", curve}};
}

Json matrices_json(const CompressReport& report) {
  Json matrices = Json::array();
  for (const CompressedMatrixReport& matrix : report.matrices) {
    matrices.push_back(
        {{"name", matrix.name},
         {"kind", matrix.kind},
         {"layer", matrix.layer},
         {"rows", matrix.rows},
         {"columns", matrix.columns},
         {"experts", matrix.experts},
         {"bits", matrix.bits},
         {"rank", matrix.rank},
         {"share", matrix.share},
         {"bytes",
          {{"backbone", matrix.backbone_bytes}, {"branch", matrix.branch_bytes}, {"branch_reads_per_token", matrix.branch_read_bytes}}},
         {"loss", matrix.loss},
         {"loss_left", matrix.loss_left},
         {"kl", matrix.kl},
         {"restored", matrix.restored}});
  }
  return matrices;
}

Json memory_json(const CompressMemory& memory) {
  return {{"budget", memory.budget_bytes},
          {"planned", memory.planned_bytes},
          {"peak", memory.peak_bytes},
          {"feedback_columns", memory.feedback_columns},
          {"peaks",
           {{"calibration", memory.calibration},
            {"grams", memory.grams},
            {"matrices", memory.matrices},
            {"backbone", memory.backbone},
            {"corrections", memory.corrections},
            {"training", memory.training}}}};
}

Json quality_json(const std::optional<CompressQuality>& quality) {
  if (!quality) return {};
  Json document = {
      {"kl_backbone", quality->backbone.value}, {"kl_compensated", nullptr}, {"recovered", nullptr}, {"error", quality->backbone.error}};
  if (!quality->compensated) return document;
  document["kl_compensated"] = quality->compensated->value;
  document["recovered"] = quality->recovered.value;
  document["error"] = quality->recovered.error;
  return document;
}

Json polish_json(const CompressReport& report) {
  if (report.polish_scope == PolishScope::kAuto) return {};
  Json layers = Json::array();
  for (const PolishedLayer& layer : report.polish_layers) {
    layers.push_back(
        {{"layer", layer.layer}, {"error_before", layer.error_before}, {"error_after", layer.error_after}, {"is_kept", layer.is_kept}});
  }
  return {{"scope", report.polish_scope == PolishScope::kBlock ? "block" : "end-to-end"},
          {"bytes", report.polish_bytes},
          {"kl_before", report.polish_kl_before},
          {"kl_after", report.polish_kl_after},
          {"is_kept", report.is_polish_kept},
          {"layers", layers}};
}

std::string quality_text(const CompressQuality& quality) {
  const auto nats = [](const CompressQuality::Figure& kl) { return fmt::format("{:.4f} +- {:.4f} nats a token", kl.value, kl.error); };
  if (!quality.compensated) return fmt::format("on held-out text {} from the model\n", nats(quality.backbone));
  return fmt::format("on held-out text {} from the model, {} without corrections: {:.0f} +- {:.0f} % recovered\n",
                     nats(*quality.compensated), nats(quality.backbone), 100 * quality.recovered.value, 100 * quality.recovered.error);
}

Status write_report(const CompressCommandOptions& options, const CompressReport& report, const std::optional<CompressQuality>& quality,
                    double seconds) {
  const auto bits_each = [](uint64_t bytes, uint64_t weights) { return static_cast<double>(bytes) * 8 / static_cast<double>(weights); };
  const double bits = bits_each(report.backbone_bytes, report.backbone_weights),
               branch_bits = bits_each(report.branch_bytes, report.backbone_weights),
               read_bits = bits_each(report.branch_read_bytes, report.used_weights);
  if (options.common.json) {
    return write_json(
        {{"file", options.output},
         {"bytes",
          {{"input", report.input_bytes},
           {"output", report.output_bytes},
           {"backbone", report.backbone_bytes},
           {"branches", report.branch_bytes},
           {"branch_reads_per_token", report.branch_read_bytes}}},
         {"bits_per_weight", {{"backbone", bits}, {"branches", branch_bits}, {"branch_reads", read_bits}}},
         {"levels", options.levels == WeightLevels::kCodebook ? "codebook" : "uniform"},
         {"group", options.group_weights},
         {"quality", quality_json(quality)},
         {"calibration_tokens", report.calibration_tokens},
         {"memory", memory_json(report.memory)},
         {"resumed_windows", report.resumed_windows},
         {"polish", polish_json(report)},
         {"survey", survey_json(report.survey)},
         {"matrices", matrices_json(report)},
         {"seconds", seconds}});
  }
  const std::string branches = report.branch_bytes == 0
                                   ? ""
                                   : fmt::format(", {} of branches at {:.2f}, {:.2f} of them read by a token",
                                                 format_size(report.branch_bytes), branch_bits, read_bits);
  return write_out(fmt::format("{}: {} from {}; {} of them layers at {:.2f} bits a weight{}, by {} tokens, in {:.0f} s\n{}", options.output,
                               format_size(report.output_bytes), format_size(report.input_bytes), format_size(report.backbone_bytes), bits,
                               branches, report.calibration_tokens, seconds, quality ? quality_text(*quality) : ""));
}

// None where there is no text for it, or measuring failed, which is said. Errors: kCancelled.
Result<std::optional<CompressQuality>> quality_of(const Model& model, const CompressCommandOptions& options,
                                                  const std::vector<Token>& held_out) {
  if (held_out.empty()) return std::optional<CompressQuality>();
  auto measured = measure_quality(model, options.output, options.common, held_out, options.chunk_tokens);
  if (measured.is_ok()) return std::optional(measured.value());
  if (measured.status().code() == StatusCode::kCancelled) return measured.status();
  say(fmt::format("{} is complete, but how near it comes was not measured: {}", options.output, measured.status().message()));
  return std::optional<CompressQuality>();
}

Status compress(const CompressCommandOptions& options) {
  apply_log_level(options.common);
  auto model = open_runnable(options.model, options.common);
  if (!model.is_ok()) return model.status();
  auto read = read_compress_options(options, model.value());
  if (!read.is_ok()) return read.status();
  CompressOptions& compress_options = read.value();
  // A text that the model writes itself takes a minute: what cannot be compressed is not to wait for it.
  if (options.own_text || options.calibration.empty()) {
    const uint64_t tokens = uint64_t{options.chunks} * options.chunk_tokens;
    if (Status status = check_compress(model.value(), tokens, options.output, compress_options); !status.is_ok()) return status;
  }
  auto text = read_compress_text(options, model.value());
  if (!text.is_ok()) return text.status();
  const Stopwatch watch;
  std::optional<CompressReport> made;
  {
    const Interruptible interruptible;
    ProgressLine progress(options.common.progress, "compressing");
    compress_options.on_resume = [](const CompressResumption& found) {
      say(fmt::format("going on after layer {} of {}{}", found.layers_done, found.layers, found.is_surveying ? " of the survey" : ""));
    };
    compress_options.progress = progress.callback();
    compress_options.cancel = interrupt_token();
    auto report = compress_model(model.value(), text->calibration, options.output, compress_options);
    if (!report.is_ok()) return report.status();
    made = std::move(report).value();
  }
  const double seconds = watch.ms() / 1e3;
  const auto quality = quality_of(model.value(), options, text->held_out);
  if (!quality.is_ok()) return quality.status();
  if (quality.value() && !options.report_file.empty()) {
    if (Status status = write_compress_page(model.value(), options.output, compress_options, *made, *quality.value()); !status.is_ok()) {
      say(fmt::format("{} is complete, but does not tell how near it comes: {}", options.report_file, status.message()));
    }
  }
  return write_report(options, *made, quality.value(), seconds);
}

}  // namespace

void add_compress(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("compress", "Make a low-bit model");
  auto options = std::make_shared<CompressCommandOptions>();
  add_model(*command, options->model);
  command->add_option("-o,--output", options->output, "The file to write; it appears complete or not at all")
      ->required()
      ->type_name("FILE");
  command
      ->add_option("--bits", options->bits,
                   "Bits of a weight: 2, 3 or 4 (scales take half a bit more, see --group), or mixed:B for B stored bits on average")
      ->type_name("N|mixed:B")
      ->capture_default_str();
  add_choice<WeightLevels>(
      *command, "--levels", options->levels,
      "What codes stand for: equal steps, or a table's levels, closer together in the middle, with which as many bytes lose less",
      {{"uniform", WeightLevels::kUniform}, {"codebook", WeightLevels::kCodebook}});
  command
      ->add_option("--group", options->group_weights,
                   "Weights that share a scale; with 128 scales take a quarter of a bit, and rows need a multiple of 128")
      ->capture_default_str()
      ->check(CLI::IsMember({64u, 128u}));
  command
      ->add_option("--branch-budget", options->branch_budget,
                   "Most bytes for what corrects the matrices, branches and residuals: a size, bits for each weight (0.4bpw), a share of "
                   "the backbone (10%); 0: as many as the other budget needs")
      ->type_name("SIZE")
      ->capture_default_str();
  command
      ->add_option("--branch-reads", options->branch_reads,
                   "Most bytes of it that a token reads on average: a size, bits for each weight, a share of the backbone; 0: no limit. "
                   "Without both nothing is corrected")
      ->type_name("SIZE")
      ->capture_default_str();
  add_share(*command, "--max-slowdown", options->max_slowdown,
            "Instead of --branch-reads: a token may take so much longer on this machine's host, 5% or 0.05, the model being in its memory");
  add_choice<BranchForm>(*command, "--form", options->form,
                         "Low-rank branches, residuals, or for each matrix whichever restores more within the budgets",
                         {{"auto", BranchForm::kAuto}, {"low-rank", BranchForm::kLowRank}, {"sparse", BranchForm::kSparse}});
  command
      ->add_option(
          "--factor-bits", options->factor_bits,
          "Bits of a low-rank branch's factors (scales take half a bit more); with 8 a branch of the same rank is nearly twice as large")
      ->capture_default_str()
      ->check(CLI::IsMember({4, 8}));
  command
      ->add_option(
          "--polish", options->polish,
          "Train by so many steps what --polish-target says; auto: 50, of a dense model")
      ->type_name("auto|off|STEPS")
      ->capture_default_str();
  add_choice<PolishTargetChoice>(
      *command, "--polish-target", options->polish_target,
      "What is trained: the branches; the backbone's scales and norms, which take no byte more; or both. auto: both "
      "with two bits, and without branches with three, without residuals and --host-budget, where the whole model is trained together, "
      "else the branches",
      {{"auto", PolishTargetChoice::kAuto},
       {"branches", PolishTargetChoice::kBranches},
       {"backbone", PolishTargetChoice::kBackbone},
       {"both", PolishTargetChoice::kBoth}});
  add_choice<PolishScope>(
      *command, "--polish-scope", options->polish_scope,
      "Train all branches together, with the model in memory as float32, or layer by layer; auto: together where --host-budget has "
      "room for it, or without one where 8 bytes for each of the model's weights are less than 4 GB",
      {{"auto", PolishScope::kAuto}, {"end-to-end", PolishScope::kEndToEnd}, {"block", PolishScope::kBlock}});
  add_choice<BranchAllocation>(
      *command, "--allocate", options->allocation, "How budgets are shared out: as measured, the same for all, or by HCInfer's score",
      {{"auto", BranchAllocation::kMeasured}, {"uniform", BranchAllocation::kUniform}, {"hcinfer", BranchAllocation::kHcinfer}});
  add_choice<BranchMethod>(
      *command, "--method", options->method,
      "How branches are found: the best for the inputs, or HCInfer's plain singular vectors (with its ranks, unless there is a budget)",
      {{"auto", BranchMethod::kWeighed}, {"hcinfer", BranchMethod::kHcinfer}});
  command
      ->add_option(
          "--calibration", options->calibration,
          "A text like those that the model is for; may be given several times, for mixed use. Unset: what the model itself writes")
      ->type_name("TEXT");
  command->add_flag("--own-text", options->own_text, "Also what the model itself writes, as one more text");
  command->add_option("--ctx", options->chunk_tokens, "Tokens of a chunk of the text")->capture_default_str()->check(CLI::Range(16, 65536));
  command->add_option("--chunks", options->chunks, "Chunks that are used, spread evenly over the texts")
      ->capture_default_str()
      ->check(CLI::Range(1, 65536));
  command
      ->add_option("--quality-chunks", options->quality_chunks,
                   "Chunks that calibration does not use, of the same texts, to measure the distance from the model on; 0: do not measure")
      ->capture_default_str()
      ->check(CLI::Range(0, 65536));
  command
      ->add_option("--report", options->report_file,
                   "Also write a page about what was measured, chosen and made; it appears complete or not at all")
      ->type_name("FILE.html");
  command->add_flag("--no-resume", options->no_resume,
                    "Neither keep what is done in FILE.progress while it is going on, nor go on from what an interrupted run left there");
  add_common_options(*command, options->common, Shows::kOutputOnly);
  command->get_option("--host-budget")
      ->group(command->get_option("--output")->get_group())
      ->description(
          "Most memory for what is held meanwhile; 0 or unset: no limit. What cannot do with it is refused, before anything is done where "
          "that can be known");
  command->footer(
      "The file opens like any model. Interrupted or killed, the same command goes on where it was. With a budget for branches, low-rank "
      "corrections of each matrix are stored with it and computed beside it.\n"
      "Examples:\n"
      "  outrigger compress model.gguf -o small.gguf --bits 3 --calibration book.txt --calibration chats.txt\n"
      "  outrigger compress model.gguf -o small.gguf --bits 2 --branch-budget 10% --calibration book.txt\n"
      "  outrigger eval small.gguf --reference model.gguf --text other.txt\n");
  command->callback([&action, options] { action = [options] { return compress(*options); }; });
}

}  // namespace outrigger::tool
