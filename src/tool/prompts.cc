// outrigger run --prompts: many prompts, one after the other or several at once.
#include <fmt/format.h>
#include <outrigger/batch.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "src/tool/draft_plan.h"
#include "src/tool/generation.h"
#include "src/tool/interrupt.h"
#include "src/tool/loading.h"
#include "src/tool/prompt_file.h"
#include "src/tool/repetition_store.h"

namespace outrigger::tool {
namespace {

// Sums over all prompts.
struct Totals {
  double prefill_ms = 0, decode_ms = 0, first_token_ms = 0;
  size_t prompt_tokens = 0, tokens = 0, tokens_after_first = 0, runs = 0;
  SpeculationReport speculation;

  void add(const Prompt& prompt, const GenerateResult& result) {
    prefill_ms += result.timings.prefill_ms;
    decode_ms += result.timings.decode_ms;
    first_token_ms += result.timings.time_to_first_token_ms;
    prompt_tokens += prompt.tokens.size();
    tokens += result.tokens.size();
    tokens_after_first += result.tokens.empty() ? 0 : result.tokens.size() - 1;
    ++runs;
    add_report(result.speculation, &speculation);
  }
  static double per_s(size_t count, double ms) { return ms > 0 ? static_cast<double>(count) * 1000 / ms : 0; }
  double prefill_rate() const { return per_s(prompt_tokens, prefill_ms); }
  double decode_rate() const { return per_s(tokens_after_first, decode_ms); }
};

// What every way to run them is given.
struct PromptsRun {
  const Engine& engine;
  const RunOptions& options;
  const std::vector<Prompt>& prompts;
  uint32_t at_once = 1;

  bool streams() const { return !options.common.json; }
  std::string heading(size_t index) const {
    return fmt::format("{}==> {}/{} <==\n", index == 0 ? "" : "\n\n", index + 1, prompts.size());
  }
};

// A prompt's place is its number; those that were not begun before Ctrl-C have none.
struct PromptResults {
  std::vector<GenerateResult> results;
  double wall_ms = 0, load_ms = 0;
  std::optional<BatchReport> batch;
  BranchUse branches;
};

Status run_one_by_one(const PromptsRun& run, PromptResults* all) {
  auto session = open_session(run.engine, run.options, &all->load_ms);
  if (!session.is_ok()) return session.status();
  const Stopwatch watch;
  for (const Prompt& prompt : run.prompts) {
    if (run.streams()) {
      if (Status status = write_out(run.heading(all->results.size())); !status.is_ok()) return status;
    }
    if (Status status = session->truncate(0); !status.is_ok()) return status;
    auto result = generate_text(session.value(), prompt.tokens, run.options, prompt.new_tokens, run.streams());
    if (!result.is_ok()) return result.status();
    all->results.push_back(std::move(result).value());
    if (was_interrupted()) break;
  }
  all->wall_ms = watch.ms();
  all->branches = session->branch_use();
  return Status();
}

// Texts come in the order in which they end, and are written in that of their prompts.
class TextsInOrder {
 public:
  explicit TextsInOrder(const PromptsRun& run) : run_(run), texts_(run.prompts.size()) {}

  void add(size_t index, const Result<GenerateResult>& result) {
    const bool is_begun = result.is_ok() && (result.value().stop_reason != StopReason::kCancelled || !result.value().tokens.empty());
    if (is_begun) texts_[index] = result.value().text;
    for (; next_ < texts_.size() && texts_[next_] && status_.is_ok(); ++next_) status_ = write_out(run_.heading(next_) + *texts_[next_]);
    if (!status_.is_ok()) stop_.cancel();  // nobody is left to write for
  }
  const Status& status() const { return status_; }
  const CancelToken& stop() const { return stop_; }

 private:
  const PromptsRun& run_;
  std::vector<std::optional<std::string>> texts_;
  size_t next_ = 0;
  Status status_;
  CancelToken stop_;
};

Status run_together(const PromptsRun& run, PromptResults* all) {
  TextsInOrder texts(run);
  std::vector<BatchRequest> requests;
  for (const Prompt& prompt : run.prompts) {
    requests.push_back({prompt.tokens, generate_options(run.options, prompt.new_tokens)});
    requests.back().options.cancel = texts.stop();
  }
  ProgressLine progress(run.options.common.progress, "generating");
  size_t done = 0;
  BatchOptions options;
  options.sequences = run.at_once;
  options.branch_share = run.options.future.branch_share;
  options.follow_load = follow_load(run.options.common, run.options.future);
  if (run.options.future.groups != "auto") options.groups = run.options.future.groups == "2" ? 2 : 1;
  options.cancel = interrupt_token();
  options.on_result = [&](size_t index, const Result<GenerateResult>& result) {
    progress.update(static_cast<double>(++done) / static_cast<double>(requests.size()));
    if (!run.streams()) return;
    progress.finish();
    texts.add(index, result);
  };
  const Interruptible interruptible;
  auto made = generate_batch(run.engine, requests, options);
  progress.finish();
  if (!made.is_ok()) return made.status();
  if (!texts.status().is_ok()) return texts.status();
  for (Result<GenerateResult>& result : made->results) {
    if (!result.is_ok()) return result.status();
    all->results.push_back(std::move(result).value());
  }
  all->wall_ms = made->report.total_ms;
  all->batch = made->report;
  all->branches = made->report.branches;
  return Status();
}

Json batch_json(const BatchReport& report) {
  return {{"most_at_once", report.most_at_once},
          {"steps", report.steps},
          {"step_tokens", report.step_tokens},
          {"alternated_steps", report.alternated_steps}};
}

Json document_of(const Model& model, const PromptsRun& run, const PromptResults& all, const Totals& totals) {
  Json results = Json::array();
  for (size_t i = 0; i < all.results.size(); ++i) results.push_back(generation_json(run.prompts[i].tokens, all.results[i], -1));
  Json document = {{"results", results},
                   {"timings",
                    {{"load_ms", all.load_ms},
                     {"prefill_ms", totals.prefill_ms},
                     {"prefill_tokens_per_s", totals.prefill_rate()},
                     {"time_to_first_token_ms", totals.first_token_ms / static_cast<double>(totals.runs)},
                     {"decode_ms", totals.decode_ms},
                     {"decode_tokens_per_s", totals.decode_rate()},
                     {"total_tokens_per_s", Totals::per_s(totals.tokens, all.wall_ms)}}},
                   {"memory", memory_json(run.engine)},
                   {"streamed", streamed_json(run.engine)},
                   {"experts", experts_json(run.engine)},
                   {"device", device_json(run.engine)},
                   {"plan", predictions_json(run.engine.plan())},
                   {"speculation", speculation_json(totals.speculation)},
                   {"model", model_json(model)},
                   {"seed", run.options.sampling.seed}};
  if (run.engine.lane_busy().steps > 0) document["lanes"] = lanes_json(run.engine);
  if (all.batch) document["batch"] = batch_json(*all.batch);
  if (all.branches.follows_load) document["branches"] = branches_json(all.branches);
  return document;
}

RunReport report_of(const PromptsRun& run, const PromptResults& all, const Totals& totals) {
  return {fmt::format("{} prompts, {} at once", totals.runs, run.at_once),
          totals.prompt_tokens,
          totals.tokens,
          totals.prefill_rate(),
          totals.decode_rate(),
          Totals::per_s(totals.tokens, all.wall_ms),
          totals.speculation};
}

// A model that drafts for itself takes steps of its own.
Status check_draft_together(const RunOptions& options, uint32_t at_once) {
  const DraftKind kind = draft_options(options.future).value().kind;
  if (at_once == 1 || kind != DraftKind::kSelf) return Status();
  return not_there_yet(fmt::format("--draft {} with --batch {}", options.future.draft, at_once),
                       "use --draft ngram or a draft model, or --batch 1");
}

}  // namespace

Status run_prompts(const Model& model, const Tokenizer& tokenizer, RunOptions options) {
  const auto prompts = read_prompts(tokenizer, options);
  if (!prompts.is_ok()) return prompts.status();
  const auto at_once = static_cast<uint32_t>(std::min<size_t>(options.future.batch.front(), prompts.value().size()));
  if (Status status = check_draft_together(options, at_once); !status.is_ok()) return status;
  auto workload = workload_for_all(options, model.info(), prompts.value());
  if (!workload.is_ok()) return workload.status();
  workload->batch = at_once;
  CommonOptions common = options.common;
  settle_draft(model, &options, &common, &workload.value());
  PromptResults all;
  const auto engine = load_engine(model, common, workload.value(), &all.load_ms);
  if (!engine.is_ok()) return engine.status();

  const PromptsRun run{engine.value(), options, prompts.value(), at_once};
  if (Status status = at_once == 1 ? run_one_by_one(run, &all) : run_together(run, &all); !status.is_ok()) return status;
  if (Status status = write_trace(engine.value(), options.common); !status.is_ok()) return status;
  Totals totals;
  for (size_t i = 0; i < all.results.size(); ++i) totals.add(prompts.value()[i], all.results[i]);
  note_declined(options, &totals.speculation);
  keep_acceptance(model, options.common, totals.speculation);
  keep_repetition(model, engine.value());
  if (Status status = write_report(options, engine.value(), report_of(run, all, totals)); !status.is_ok()) return status;
  if (run.streams()) {
    say_summary(options, engine.value(), totals.tokens, totals.prefill_rate(), totals.decode_rate(), totals.speculation);
    say_branches(options, all.branches);
    return write_out("\n");
  }
  return write_json(document_of(model, run, all, totals));
}

}  // namespace outrigger::tool
