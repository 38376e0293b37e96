// outrigger run: text from a prompt.
#include <unistd.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <random>

#include "src/tool/command_line.h"
#include "src/tool/commands.h"
#include "src/tool/draft_plan.h"
#include "src/tool/files.h"
#include "src/tool/generation.h"
#include "src/tool/loading.h"
#include "src/tool/repetition_store.h"

namespace outrigger::tool {
namespace {

Json run_json(const Model& model, const Engine& engine, const RunOptions& options, std::span<const Token> prompt,
              const GenerateResult& result, double load_ms) {
  Json document = generation_json(prompt, result, load_ms);
  document["memory"] = memory_json(engine);
  document["streamed"] = streamed_json(engine);
  if (engine.lane_busy().steps > 0) document["lanes"] = lanes_json(engine);
  document["experts"] = experts_json(engine);
  document["device"] = device_json(engine);
  document["plan"] = predictions_json(engine.plan());
  document["speculation"] = speculation_json(result.speculation);
  if (result.branches.follows_load) document["branches"] = branches_json(result.branches);
  document["model"] = model_json(model);
  document["seed"] = options.sampling.seed;
  return document;
}

Status run_prompt(const Model& model, const Tokenizer& tokenizer, RunOptions options, const std::string& text, double open_ms) {
  const auto prompt = prompt_tokens(tokenizer, options, text);
  if (!prompt.is_ok()) return prompt.status();
  const uint32_t new_tokens = options.new_tokens.value_or(kDefaultNewTokens);
  auto workload = workload_for(options, model.info(), prompt.value().size(), new_tokens);
  if (!workload.is_ok()) return workload.status();
  CommonOptions common = options.common;
  settle_draft(model, &options, &common, &workload.value());

  double load_ms = 0;
  const auto engine = load_engine(model, common, workload.value(), &load_ms);
  if (!engine.is_ok()) return engine.status();
  auto session = open_session(engine.value(), options, &load_ms);
  if (!session.is_ok()) return session.status();
  const bool stream = !options.common.json;
  auto result = generate_text(session.value(), prompt.value(), options, new_tokens, stream);
  if (!result.is_ok()) return result.status();

  note_declined(options, &result.value().speculation);
  keep_acceptance(model, options.common, result.value().speculation);
  keep_repetition(model, engine.value());
  if (Status status = write_trace(engine.value(), options.common); !status.is_ok()) return status;
  const Timings& timings = result.value().timings;
  const RunReport report{
      "", prompt.value().size(),     result.value().tokens.size(), timings.prefill_tokens_per_s, timings.decode_tokens_per_s,
      0,  result.value().speculation};
  if (Status status = write_report(options, engine.value(), report); !status.is_ok()) return status;
  if (!stream) return write_json(run_json(model, engine.value(), options, prompt.value(), result.value(), open_ms + load_ms));
  // A prompt that follows on the same line is ugly; a file gets the text and nothing else.
  if (isatty(STDOUT_FILENO) == 1 && !result.value().text.ends_with('\n')) {
    if (Status status = write_out("\n"); !status.is_ok()) return status;
  }
  say_summary(options, engine.value(), result.value().tokens.size(), result.value().timings.prefill_tokens_per_s,
              result.value().timings.decode_tokens_per_s, result.value().speculation);
  say_branches(options, result.value().branches);
  return Status();
}

uint64_t drawn_seed() {
  std::random_device device;
  // Below 2^53, so that every JSON reader gives it back exactly.
  return (uint64_t{device()} << 32 | device()) >> 11;
}

Status run(RunOptions options) {
  apply_log_level(options.common);
  if (Status status = check_future(options.future); !status.is_ok()) return status;
  if (options.prompts_file.empty() || options.future.batch.size() != 1) {
    if (Status status = check_no_batch(options.future, "several prompts come with --prompts, one number at a time"); !status.is_ok())
      return status;
  }
  if (options.future.groups == "2" && options.future.batch.front() < 2) {
    return Status(
        StatusCode::kInvalidArgument,
        "--groups: got 2, need 1, since one text alone has none to alternate with; several come with --prompts FILE.jsonl --batch N");
  }
  if (Status status = check_report(options); !status.is_ok()) return status;
  options.common.keeps_lane_times = !options.report_file.empty();
  options.sampling.seed = options.common.seed ? *options.common.seed : drawn_seed();
  if (Status status = options.sampling.validate(); !status.is_ok()) return status;
  const Stopwatch watch;
  const auto model = open_runnable(options.model, options.common);
  if (!model.is_ok()) return model.status();
  const auto tokenizer = model.value().tokenizer();
  if (!tokenizer.is_ok()) return tokenizer.status();
  const double open_ms = watch.ms();
  if (!options.prompts_file.empty()) return run_prompts(model.value(), tokenizer.value(), options);
  if (options.prompt) return run_prompt(model.value(), tokenizer.value(), options, *options.prompt, open_ms);
  if (options.prompt_file.empty()) return run_conversation(model.value(), tokenizer.value(), options);
  const auto text = read_file(options.prompt_file);
  if (!text.is_ok()) return text.status();
  return run_prompt(model.value(), tokenizer.value(), options, text.value(), open_ms);
}

void add_run_options(CLI::App& command, RunOptions& options) {
  CLI::Option* prompt = command.add_option("-p,--prompt", options.prompt, "The prompt")->type_name("TEXT");
  CLI::Option* file =
      command.add_option("-f,--file", options.prompt_file, "The prompt from a file; - is standard input")->type_name("FILE");
  CLI::Option* prompts =
      command.add_option("--prompts", options.prompts_file, "Many prompts: lines of {\"prompt\": \"...\", \"n\": 64}")->type_name("FILE");
  prompt->excludes(file, prompts);
  file->excludes(prompts);
  command.add_option("-n,--new", options.new_tokens, "Most tokens to generate; 128 unless given, 1024 for an answer in a conversation")
      ->type_name("N");
  CLI::Option* context =
      command.add_option("--ctx", options.context_tokens, "Context in tokens; unless given, what the prompt and -n need")->type_name("N");
  command.add_flag("--chat", options.chat, "The prompt is a user's turn; without one, hold a conversation");
  command.add_option("--system", options.system, "What the model is told before a chat")->type_name("TEXT");
  command.add_option("--chat-template", options.chat_template, "Instead of the model's own")->type_name("NAME");
  command.add_option("--stop", options.stop, "End before this text; may be given several times")
      ->type_name("TEXT")
      ->allow_extra_args(false);
  command.add_flag("--ignore-eos", options.ignore_eos, "Go on after an end of text");
  command.add_option("--report", options.report_file, "Write a page about the run: rates, memory, lanes, what was accepted of drafts")
      ->type_name("FILE.html");

  SamplingOptions& sampling = options.sampling;
  for (CLI::Option* option : {
           command.add_option("--temp", sampling.temperature, "Temperature (0.8); 0: always the most likely token"),
           command.add_option("--top-k", sampling.top_k, "Draw among the K most likely (40); 0: all"),
           command.add_option("--top-p", sampling.top_p, "Draw among the fewest that make up this share (0.95); 1: all"),
           command.add_option("--min-p", sampling.min_p, "Leave out what is less likely than this share of the best (0.05); 0: none"),
           command.add_option("--repeat-penalty", sampling.repeat_penalty, "Divides logits of the last 64 tokens (1); 1: off"),
       }) {
    option->group("Sampling")->type_name("X");
  }
  add_common_options(command, options.common, Shows::kMachine);
  add_future_options(command, options.future, true);
  context->excludes("--plan");
}

}  // namespace

void add_run(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("run", "Generate text");
  auto options = std::make_shared<RunOptions>();
  add_model(*command, options->model);
  add_run_options(*command, *options);
  command->footer(
      "Ctrl-C ends with the text so far; a second one ends at once.\n"
      "Examples:\n"
      "  outrigger run model.gguf -p \"The capital of France is\" -n 16 --temp 0\n"
      "  outrigger run model.gguf --host-budget 64MiB --chat -p \"Why is the sky blue?\"\n"
      "  outrigger run model.gguf --chat --system \"Answer briefly.\"      # a conversation; /quit ends it\n"
      "  outrigger run model.gguf --draft small.gguf -p \"Once upon a time\"  # a small model proposes, the large one decides\n"
      "  outrigger run model.gguf --draft ngram --draft-tokens 8 -f notes.txt --report run.html\n"
      "  outrigger run compressed.gguf --branch follow --max-slowdown 5% -f notes.txt  # as much of the branches as the host has time for\n"
      "  outrigger run model.gguf --host-budget 4GiB --temp 0 --draft self -f notes.txt  # low-bit copies of what streams propose\n"
      "  outrigger run model.gguf --prompts prompts.jsonl --batch 8 --json > answers.json\n");
  command->callback([&action, options] {
    const bool prompted = options->prompt || !options->prompt_file.empty() || !options->prompts_file.empty();
    if (!prompted && !options->chat) throw CLI::ValidationError("need one of --prompt, --file, --prompts and --chat");
    if (!prompted && options->common.json) throw CLI::ValidationError("--json: a conversation has no document; need a prompt");
    if (!prompted && !options->report_file.empty()) throw CLI::ValidationError("--report: a conversation has none; need a prompt");
    if (!options->chat && !(options->system.empty() && options->chat_template.empty())) {
      throw CLI::ValidationError("--system and --chat-template need --chat");
    }
    action = [options] { return run(*options); };
  });
}

}  // namespace outrigger::tool
