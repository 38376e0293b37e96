// outrigger eval: how well a model predicts a text, alone or beside a reference.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "src/tool/command_line.h"
#include "src/tool/commands.h"
#include "src/tool/eval_compare.h"
#include "src/tool/eval_task.h"
#include "src/tool/eval_text.h"
#include "src/tool/files.h"
#include "src/tool/loading.h"
#include "src/tool/report.h"

namespace outrigger::tool {
namespace {

struct EvalOptions {
  CommonOptions common;
  FutureOptions future;
  std::string model, text_file, task_file, logits_file, reference;
  std::optional<Numerics> reference_numerics;
  std::vector<std::string> compare;
  uint32_t context_tokens = 512;
  std::optional<uint32_t> chunks;

  bool has_reference() const { return !reference.empty() || reference_numerics.has_value(); }
};

Result<TextChunks> read_chunks(const EvalOptions& options, const Tokenizer& tokenizer) {
  const auto text = read_file(options.text_file);
  if (!text.is_ok()) return text.status();
  // llama-perplexity reads a text without its last newline.
  std::string_view bytes = text.value();
  if (bytes.ends_with('\n')) bytes.remove_suffix(1);
  auto tokens = tokenizer.encode(bytes, {.add_special = true, .parse_special = false});
  if (!tokens.is_ok()) return tokens.status();
  TextChunks chunks;
  chunks.tokens = std::move(tokens).value();
  chunks.context_tokens = options.context_tokens;
  chunks.chunks = chunks.tokens.size() / options.context_tokens;
  if (options.chunks) chunks.chunks = std::min<size_t>(chunks.chunks, *options.chunks);
  if (tokenizer.adds_bos()) chunks.bos = tokenizer.bos();
  if (chunks.chunks == 0) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("the text has {} tokens, need {} for one chunk; give a longer text or a smaller --ctx", chunks.tokens.size(),
                              options.context_tokens))
        .in_file(options.text_file);
  }
  return chunks;
}

Result<Engine> open_engine(const Model& model, const CommonOptions& common, uint32_t context) {
  Workload workload;
  workload.prompt_tokens = context - 1;
  workload.new_tokens = 1;
  workload.context_tokens = context;
  workload.logit_rows = std::min(kEvaluationRows, context);
  return load_engine(model, common, workload);
}

Result<Session> open_session(const Result<Engine>& engine, float branch_share = SessionOptions::kAsPlanned) {
  return engine.is_ok() ? Session::open(engine.value(), {0, branch_share}) : engine.status();  // keeps the engine alive
}

// The reference computes what the model is compared with: in float32 unless told otherwise, and without the limit under test.
Result<Session> open_reference(const EvalOptions& options, const Model& model, const TextChunks& chunks) {
  CommonOptions common = options.common;
  common.numerics = options.reference_numerics.value_or(Numerics::kFloat32);
  common.host_budget.reset();
  common.plan_file.clear();
  common.kv_type.reset();
  common.trace_file.clear();
  if (options.reference.empty()) return open_session(open_engine(model, common, chunks.context_tokens));
  const auto reference = open_runnable(options.reference, common);
  if (!reference.is_ok()) return reference.status();
  const auto tokenizer = reference.value().tokenizer();
  if (!tokenizer.is_ok()) return tokenizer.status();
  const auto same = read_chunks(options, tokenizer.value());
  if (!same.is_ok()) return same.status();
  if (same.value().tokens != chunks.tokens || reference.value().info().vocabulary_tokens != model.info().vocabulary_tokens) {
    return Status(StatusCode::kInvalidArgument, "--reference: its vocabulary is another one, need the same to compare predictions")
        .in_file(options.reference);
  }
  return open_session(open_engine(reference.value(), common, chunks.context_tokens));
}

Result<TextFigures> evaluate_text(const EvalOptions& options, const Model& model, const TextChunks& chunks, Session& session) {
  std::optional<Session> reference;
  if (options.has_reference()) {
    auto opened = open_reference(options, model, chunks);
    if (!opened.is_ok()) return opened.status();
    reference.emplace(std::move(opened).value());
  }
  std::optional<NpyWriter> logits;
  if (!options.logits_file.empty()) {
    auto created = NpyWriter::create(options.logits_file, chunks.scored(), model.info().vocabulary_tokens);
    if (!created.is_ok()) return created.status();
    logits.emplace(std::move(created).value());
  }
  TextEvaluation evaluation(session, reference ? &*reference : nullptr, logits ? &*logits : nullptr, options.common.progress);
  auto figures = evaluation.run(chunks);
  if (!figures.is_ok() || !logits) return figures;
  if (Status status = logits->commit(); !status.is_ok()) return status;
  return figures;
}

std::string task_text(const Json& task) {
  const auto line = [&task](const char* name, const char* field) {
    return fmt::format("{:<24}{:.2f} % +- {:.2f} %\n", name, task[field]["value"].get<double>() * 100,
                       task[field]["error"].get<double>() * 100);
  };
  return fmt::format("{:<24}{}\n", "examples", task["examples"].get<size_t>()) + line("accuracy", "accuracy") +
         line("accuracy, normalised", "accuracy_normalised");
}

// A model's row of the table. Whether the text is the same for all is found out by its tokens.
Result<ComparedModel> compare_one(const EvalOptions& options, const std::string& file, std::optional<TextChunks>* first) {
  auto model = open_runnable(file, options.common);
  if (!model.is_ok()) return model.status();
  auto shape = model->step_shape();
  if (!shape.is_ok()) return shape.status();
  const auto tokenizer = model->tokenizer();
  if (!tokenizer.is_ok()) return tokenizer.status();
  auto chunks = read_chunks(options, tokenizer.value());
  if (!chunks.is_ok()) return chunks.status();
  if (!*first) *first = chunks.value();
  if (chunks->tokens != (*first)->tokens) {
    return Status(StatusCode::kInvalidArgument,
                  "--compare: its vocabulary is another one than the first model's, need the same to compare predictions")
        .in_file(file);
  }
  const auto engine = open_engine(model.value(), options.common, chunks->context_tokens);
  auto session = open_session(engine, options.future.branch_share);
  if (!session.is_ok()) return session.status();
  ComparedModel row;
  row.file.name = file;
  count_bytes(shape.value(), &row.file);
  row.host_bytes = engine.value().plan().host.planned_bytes;
  row.device_bytes = engine.value().plan().device.planned_bytes;
  const auto rate = measure_decoding(session.value(), chunks->context_tokens);
  if (!rate.is_ok()) return rate.status();
  row.tokens_per_s = rate.value();
  auto figures = evaluate_text(options, model.value(), chunks.value(), session.value());
  if (!figures.is_ok()) return figures.status();
  row.figures = std::move(figures).value();
  row.file.kl = row.figures.kl;
  if (!options.has_reference() || row.file.branch_bytes == 0) return row;
  if (Status status = session->set_branch_share(0); !status.is_ok()) return status;
  auto bare = evaluate_text(options, model.value(), chunks.value(), session.value());
  if (!bare.is_ok()) return bare.status();
  row.file.bare_kl = std::move(bare->kl);
  return row;
}

Status compare(const EvalOptions& options) {
  const Stopwatch watch;
  std::optional<TextChunks> chunks;
  std::vector<ComparedModel> rows;
  std::vector<std::string> files{options.model};
  files.insert(files.end(), options.compare.begin(), options.compare.end());
  for (const std::string& file : files) {
    auto row = compare_one(options, file, &chunks);
    if (!row.is_ok()) return row.status();
    rows.push_back(std::move(row).value());
  }
  if (options.common.json) {
    Json document = compared_json(rows, options.has_reference());
    document["seconds"] = watch.ms() / 1000;
    return write_json(document);
  }
  return write_out(compared_text(rows, options.has_reference()));
}

Status eval(const EvalOptions& options) {
  apply_log_level(options.common);
  if (Status status = check_future(options.future); !status.is_ok()) return status;
  if (Status status = check_no_batch(options.future, "a text is evaluated one chunk after the other"); !status.is_ok()) return status;
  if (options.future.follows_load) {
    return Status(StatusCode::kInvalidArgument, "--branch: got follow, need all, none or a share: what depends on time cannot be compared");
  }
  if (!options.compare.empty()) return compare(options);
  const auto model = open_runnable(options.model, options.common);
  if (!model.is_ok()) return model.status();
  const auto tokenizer = model.value().tokenizer();
  if (!tokenizer.is_ok()) return tokenizer.status();

  TextChunks chunks;
  std::vector<TaskExample> examples;
  if (!options.text_file.empty()) {
    auto read = read_chunks(options, tokenizer.value());
    if (!read.is_ok()) return read.status();
    chunks = std::move(read).value();
  }
  if (!options.task_file.empty()) {
    auto read = read_task(options.task_file, tokenizer.value());
    if (!read.is_ok()) return read.status();
    examples = std::move(read).value();
  }
  const size_t context = std::max<size_t>(chunks.context_tokens, longest_choice(examples));
  const auto engine = open_engine(model.value(), options.common, static_cast<uint32_t>(context));
  auto session = open_session(engine, options.future.branch_share);
  if (!session.is_ok()) return session.status();

  const Stopwatch watch;
  Json document = Json::object();
  std::string text;
  if (chunks.chunks != 0) {
    const auto figures = evaluate_text(options, model.value(), chunks, session.value());
    if (!figures.is_ok()) return figures.status();
    document = figures_json(figures.value(), options.has_reference());
    text = figures_text(figures.value(), options.has_reference());
  }
  if (!examples.empty()) {
    const auto task = run_task(session.value(), examples, options.common.progress);
    if (!task.is_ok()) return task.status();
    document["task"] = task.value();
    text += task_text(task.value());
  }
  document["seconds"] = watch.ms() / 1000;
  if (Status status = write_trace(engine.value(), options.common); !status.is_ok()) return status;
  return options.common.json ? write_json(document) : write_out(text);
}

}  // namespace

void add_eval(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("eval", "Perplexity of a text, distance from a reference, multiple-choice accuracy");
  auto options = std::make_shared<EvalOptions>();
  add_model(*command, options->model);
  CLI::Option* text = command->add_option("--text", options->text_file, "The text to predict; - is standard input")->type_name("FILE");
  command->add_option("--ctx", options->context_tokens, "Tokens of a chunk (512); the second half is scored")
      ->type_name("N")
      ->check(CLI::Range(4u, UINT32_MAX).description(""));
  command->add_option("--chunks", options->chunks, "At most so many chunks")->type_name("N")->check(CLI::PositiveNumber.description(""));
  CLI::Option* reference =
      command->add_option("--reference", options->reference, "Compare with this model, computed in float32")->type_name("MODEL");
  CLI::Option* numerics =
      command
          ->add_option_function<std::string>(
              "--reference-numerics",
              [options](const std::string& name) { options->reference_numerics = name == "fast" ? Numerics::kFast : Numerics::kFloat32; },
              "Compare with the reference, or without one with this model, computed so")
          ->type_name("fast|float32")
          ->check(CLI::IsMember({"fast", "float32"}).description(""));
  CLI::Option* logits =
      command->add_option("--logits", options->logits_file, "Write float32 [tokens_scored, vocabulary]")->type_name("OUT.npy");
  CLI::Option* compare =
      command->add_option("--compare", options->compare, "More models beside this one: a table of bytes, speed and distance")
          ->type_name("FILE...");
  CLI::Option* task =
      command->add_option("--task", options->task_file, "Lines of {\"context\":\"..\",\"choices\":[..],\"answer\":0}")->type_name("FILE");
  add_common_options(*command, options->common, Shows::kMachine);
  add_future_options(*command, options->future, false);
  for (CLI::Option* option : {reference, numerics, logits, compare}) option->needs(text);
  for (CLI::Option* option : {logits, task}) compare->excludes(option);
  command->footer(
      "Chunks, scored tokens and errors are those of llama-perplexity, so that the figures compare.\n"
      "Examples:\n"
      "  outrigger eval model.gguf --text book.txt\n"
      "  outrigger eval model.gguf --text book.txt --reference-numerics float32 --chunks 10 --json\n"
      "  outrigger eval small.gguf --compare smaller.gguf with-branches.gguf --reference model.gguf --text book.txt\n"
      "  outrigger eval model.gguf --task questions.jsonl\n");
  command->callback([&action, options, text, task] {
    if (text->count() == 0 && task->count() == 0) throw CLI::ValidationError("need one of --text and --task");
    action = [options] { return eval(*options); };
  });
}

}  // namespace outrigger::tool
