// What the three forms of `run` share: its options, one generation, and the fields that report it.
#ifndef OUTRIGGER_SRC_TOOL_GENERATION_H_
#define OUTRIGGER_SRC_TOOL_GENERATION_H_

#include <outrigger/run_report.h>
#include <outrigger/session.h>
#include <outrigger/tokenizer.h>

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "src/tool/options.h"
#include "src/tool/report.h"

namespace outrigger::tool {

struct RunOptions {
  CommonOptions common;
  FutureOptions future;
  std::string model;
  std::optional<std::string> prompt;
  std::string prompt_file, prompts_file;
  std::string report_file;  ///< empty: none
  std::optional<uint32_t> new_tokens;
  uint32_t context_tokens = 0;  ///< 0: what the prompt and the new tokens need
  bool chat = false;
  std::string system, chat_template;
  /// temperature, top-k and the rest as people expect them from a chat; the seed is drawn when none is given.
  SamplingOptions sampling = {.temperature = 0.8f, .top_k = 40, .top_p = 0.95f, .min_p = 0.05f};
  std::vector<std::string> stop;
  bool ignore_eos = false;
  /// Of a token of each text, as expected, where --draft FILE was left out by settle_draft().
  struct Declined {
    double drafted_ms = 0, plain_ms = 0;
  };
  std::optional<Declined> declined;
};

constexpr uint32_t kDefaultNewTokens = 128;

/// Tokens of a text as the model is to see it: with BOS where the model wants one, or as a user's turn with --chat.
/// Errors: those of Tokenizer::encode and chat; kInvalidArgument when nothing is left to compute.
Result<std::vector<Token>> prompt_tokens(const Tokenizer& tokenizer, const RunOptions& options, const std::string& text);

/// Room for a prompt and what follows it: a context of --ctx, or both together but no more than the model's. The workload's new tokens are
/// those that find room. Errors: kInvalidArgument when the prompt does not fit.
Result<Workload> workload_for(const RunOptions& options, const ModelInfo& info, size_t prompt, uint32_t new_tokens);

/// What the plan is to know of --draft: room for what it proposes, for each text of the workload's batch, and the file that it keeps memory
/// for. Precondition: check_future().
void plan_for_draft(const FutureOptions& future, const SamplingOptions& sampling, CommonOptions* common, Workload* workload);
/// plan_for_draft(), unless --draft FILE is to draft as it pays and the plan expects a loss of it (DraftJudgement): then it is left out of
/// the options as well, and a line on stderr says so. What cannot be told is left to planning and loading. Not for conversations, of which
/// nobody knows how much will be written.
void settle_draft(const Model& model, RunOptions* options, CommonOptions* common, Workload* workload);
/// Says in `report` that the draft was left out.
void note_declined(const RunOptions& options, SpeculationReport* report);
/// A session with --branch, and its draft opened. `load_ms`, if given, grows by the time this takes. Errors: those of Session::open and
/// prepare_draft.
Result<Session> open_session(const Engine& engine, const RunOptions& options, double* load_ms = nullptr);

/// What is the same for every text of a run. Precondition: check_future().
GenerateOptions generate_options(const RunOptions& options, uint32_t new_tokens);

/// Extends `session` by the prompt and an answer; Ctrl-C ends it with what there is. With `stream` the text goes to stdout as it comes.
Result<GenerateResult> generate_text(Session& session, std::span<const Token> prompt, const RunOptions& options, uint32_t new_tokens,
                                     bool stream);

/// {"prompt_tokens":[..],"tokens":[..],"text":..,"stop_reason":..,"timings":{..}}; `load_ms` below 0 leaves loading out.
Json generation_json(std::span<const Token> prompt, const GenerateResult& result, double load_ms);
/// What --branch follow did, as a line for a person on stderr, unless progress is off.
void say_branches(const RunOptions& options, const BranchUse& use);
/// What the plan expects, and the alternatives to it as `plan --json` has them: why there are no low-bit copies to draft with, too.
Json predictions_json(const Plan& plan);
/// What speculation did.
Json speculation_json(const SpeculationReport& report);
/// Whether --report, if it was given, can be written: known before the work. Errors: kNotFound, kIo.
Status check_report(const RunOptions& options);
/// Writes --report, if it was given: before the result, as write_trace. Errors: kIo.
Status write_report(const RunOptions& options, const Engine& engine, const RunReport& report);
/// Sums of several generations' reports.
void add_report(const SpeculationReport& report, SpeculationReport* sum);
/// One line for a person on stderr, and one about the draft if there was one, unless progress is off.
void say_summary(const RunOptions& options, const Engine& engine, size_t tokens, double prefill_tokens_per_s, double decode_tokens_per_s,
                 const SpeculationReport& speculation);

/// `run --prompts`: --batch at a time.
Status run_prompts(const Model& model, const Tokenizer& tokenizer, RunOptions options);
/// `run --chat` without a prompt: a conversation, line by line from standard input.
Status run_conversation(const Model& model, const Tokenizer& tokenizer, const RunOptions& options);

}  // namespace outrigger::tool

#endif  // OUTRIGGER_SRC_TOOL_GENERATION_H_
