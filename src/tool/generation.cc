// One generation and the fields that report it.
#include "src/tool/generation.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "src/tool/draft_plan.h"
#include "src/tool/files.h"
#include "src/tool/interrupt.h"
#include "src/tool/loading.h"

namespace outrigger::tool {

Result<std::vector<Token>> prompt_tokens(const Tokenizer& tokenizer, const RunOptions& options, const std::string& text) {
  Result<std::vector<Token>> tokens = std::vector<Token>();
  if (options.chat) {
    std::vector<ChatMessage> messages;
    if (!options.system.empty()) messages.push_back({"system", options.system});
    messages.push_back({"user", text});
    tokens = tokenizer.chat(messages, options.chat_template);
  } else {
    tokens = tokenizer.encode(text, {.add_special = true, .parse_special = false});
  }
  if (tokens.is_ok() && tokens.value().empty()) {
    return Status(StatusCode::kInvalidArgument, "the prompt has no token; need at least one");
  }
  return tokens;
}

Result<Workload> workload_for(const RunOptions& options, const ModelInfo& info, size_t prompt, uint32_t new_tokens) {
  const uint64_t wanted = static_cast<uint64_t>(prompt) + new_tokens;
  const uint64_t most = options.context_tokens != 0 ? options.context_tokens : info.context_tokens;
  if (prompt >= most) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("the prompt has {} tokens, the context {}; {}", prompt, most,
                              options.context_tokens != 0 ? "give a larger --ctx" : "this is the most that the model was made for"));
  }
  if (wanted > most) say(fmt::format("the context of {} tokens leaves {} for the answer", most, most - prompt));
  Workload workload;
  workload.prompt_tokens = static_cast<uint32_t>(prompt);
  workload.new_tokens = static_cast<uint32_t>(std::min<uint64_t>(new_tokens, most - prompt));
  workload.context_tokens = options.context_tokens != 0 ? options.context_tokens : static_cast<uint32_t>(std::min(wanted, most));
  return workload;
}

void plan_for_draft(const FutureOptions& future, const SamplingOptions& sampling, CommonOptions* common, Workload* workload) {
  const DraftOptions draft = draft_options(future).value();
  // In a batch no model drafts for itself, and auto drafts with copies where nothing is drawn, chains only.
  const bool auto_takes_copies = sampling.temperature <= 0 && workload->batch <= 1 && draft.shape != DraftShape::kTree;
  if (draft.kind == DraftKind::kSelf) workload->stand_ins = StandIns::kAsFit;
  if (draft.kind == DraftKind::kAuto && auto_takes_copies) workload->stand_ins = StandIns::kAsItPays;
  workload->draft_tokens = planned_draft_tokens(draft, workload->batch);
  // Steps are as long as pays for the prompt. A short one's are to have room for a draft that was asked for: so it counts for more tokens
  // than it has, and what comes of it for fewer; in a batch that of every text.
  if (draft.kind != DraftKind::kAuto && draft.kind != DraftKind::kNone && workload->new_tokens > 1) {
    const uint32_t all = workload->prompt_tokens + workload->new_tokens;
    workload->prompt_tokens = std::max(workload->prompt_tokens, std::min(workload->batch * (workload->draft_tokens + 1), all - 1));
    workload->new_tokens = all - workload->prompt_tokens;
  }
  common->draft_file = draft.path;
  common->draft_place = future.draft_place;
}

void settle_draft(const Model& model, RunOptions* options, CommonOptions* common, Workload* workload) {
  const Workload asked = *workload;
  plan_for_draft(options->future, options->sampling, common, workload);
  const bool is_insisted_on = options->future.draft_tokens != "auto" || options->future.groups == "2";
  if (common->draft_file.empty() || is_insisted_on || !common->plan_file.empty() || asked.new_tokens == 0) return;
  const auto judged = judge_draft(model, *common, asked, *workload);
  if (!judged.is_ok() || !judged.value().is_loss()) return;
  const DraftJudgement& found = judged.value();
  if (options->common.progress != ProgressMode::kNone) {
    const std::string basis = found.known_drafts > 0 ? fmt::format("as right as {:.0f} drafts of earlier runs", found.known_drafts)
                                                     : std::string("if all of it were right");
    say(fmt::format("the draft is left out: {}, {:.2f} s would be expected with it and {:.2f} s without; "
                    "--draft-tokens N drafts all the same",
                    basis, found.drafted_ms / 1e3, found.plain_ms / 1e3));
  }
  options->declined = {found.drafted_ms / asked.new_tokens, found.plain_ms / asked.new_tokens};
  options->future.draft = "none";
  *workload = asked;
  plan_for_draft(options->future, options->sampling, common, workload);
}

void note_declined(const RunOptions& options, SpeculationReport* report) {
  if (!options.declined) return;
  report->auto_off = true;
  report->ms_per_token_drafted = options.declined->drafted_ms;
  report->ms_per_token_plain = options.declined->plain_ms;
}

Result<Session> open_session(const Engine& engine, const RunOptions& options, double* load_ms) {
  const Stopwatch watch;
  auto session = Session::open(engine, {0, options.future.branch_share});
  if (!session.is_ok()) return session;
  if (const Status following = start_following(session.value(), options.common, options.future); !following.is_ok()) return following;
  const Interruptible interruptible;
  ProgressLine progress(options.common.progress, "loading the draft");
  const Status prepared = session->prepare_draft(draft_options(options.future).value(), progress.callback(), interrupt_token());
  if (!prepared.is_ok()) return prepared;
  if (load_ms != nullptr) *load_ms += watch.ms();
  return session;
}

GenerateOptions generate_options(const RunOptions& options, uint32_t new_tokens) {
  GenerateOptions generate;
  generate.max_tokens = new_tokens;
  generate.sampling = options.sampling;
  generate.stop = options.stop;
  generate.ignore_eos = options.ignore_eos;
  generate.draft = draft_options(options.future).value();
  return generate;
}

Result<GenerateResult> generate_text(Session& session, std::span<const Token> prompt, const RunOptions& options, uint32_t new_tokens,
                                     bool stream) {
  const Interruptible interruptible;
  ProgressLine progress(options.common.progress, "reading the prompt");
  Status written;
  GenerateOptions generate = generate_options(options, new_tokens);
  generate.cancel = interrupt_token();
  generate.prefill_progress = progress.callback();
  generate.on_token = [&](const GeneratedToken& token) {
    progress.finish();
    if (stream && !token.text.empty()) written = write_out(token.text);
    return written.is_ok();
  };
  auto result = session.generate(prompt, generate);
  if (!written.is_ok()) return written;
  return result;
}

Json generation_json(std::span<const Token> prompt, const GenerateResult& result, double load_ms) {
  Json timings = Json::object();
  if (load_ms >= 0) timings["load_ms"] = load_ms;
  timings["prefill_ms"] = result.timings.prefill_ms;
  timings["prefill_tokens_per_s"] = result.timings.prefill_tokens_per_s;
  timings["time_to_first_token_ms"] = result.timings.time_to_first_token_ms;
  timings["decode_ms"] = result.timings.decode_ms;
  timings["decode_tokens_per_s"] = result.timings.decode_tokens_per_s;
  return {{"prompt_tokens", std::vector<Token>(prompt.begin(), prompt.end())},
          {"tokens", result.tokens},
          {"text", result.text},
          {"stop_reason", stop_reason_name(result.stop_reason)},
          {"timings", timings}};
}

void say_branches(const RunOptions& options, const BranchUse& use) {
  if (options.common.progress == ProgressMode::kNone || use.steps == 0) return;
  say(fmt::format("branches: {:.0f} % used on average, tokens took {:.1f} % longer than without", 100 * use.mean_share,
                  100 * use.slowdown));
}

Json predictions_json(const Plan& plan) {
  return {{"predicted_prefill_ms", plan.predicted_prefill_ms},
          {"predicted_decode_tokens_per_s", plan.predicted_decode_tokens_per_s},
          {"alternatives", Json::parse(plan_to_json(plan)).at("alternatives")}};
}

Json speculation_json(const SpeculationReport& report) {
  size_t places = kMostDraftTokens;
  while (places > 0 && report.drafted_at[places - 1] == 0) --places;
  const auto first = [places](const auto& counts) {
    return std::vector<uint64_t>(counts.begin(), counts.begin() + static_cast<ptrdiff_t>(places));
  };
  return {{"draft", report.draft_name},
          {"passes", report.passes},
          {"drafted", report.drafted},
          {"accepted", report.accepted},
          {"expected_accepted", report.expected_accepted},
          {"tokens_per_pass", report.tokens_per_pass},
          {"draft_ms", report.draft_ms},
          {"verify_ms", report.verify_ms},
          {"auto_off", report.auto_off},
          {"ms_per_token_drafted", report.ms_per_token_drafted},
          {"ms_per_token_plain", report.ms_per_token_plain},
          {"tree_passes", report.tree_passes},
          {"quoted_passes", report.quoted_passes},
          {"drafted_at", first(report.drafted_at)},
          {"accepted_at", first(report.accepted_at)}};
}

Status check_report(const RunOptions& options) {
  return options.report_file.empty() ? Status() : AtomicFile::create(options.report_file).status();
}

Status write_report(const RunOptions& options, const Engine& engine, const RunReport& report) {
  if (options.report_file.empty()) return Status();
  const auto page = run_to_html(engine, report);
  return page.is_ok() ? write_file(options.report_file, page.value()) : page.status();
}

void add_report(const SpeculationReport& report, SpeculationReport* sum) {
  const double tokens =
      sum->tokens_per_pass * static_cast<double>(sum->passes) + report.tokens_per_pass * static_cast<double>(report.passes);
  sum->draft = report.draft;
  sum->draft_name = report.draft_name;
  sum->passes += report.passes;
  sum->drafted += report.drafted;
  sum->accepted += report.accepted;
  sum->expected_accepted += report.expected_accepted;
  sum->draft_ms += report.draft_ms;
  sum->verify_ms += report.verify_ms;
  sum->tree_passes += report.tree_passes;
  sum->quoted_passes += report.quoted_passes;
  for (size_t i = 0; i < kMostDraftTokens; ++i) {
    sum->drafted_at[i] += report.drafted_at[i];
    sum->accepted_at[i] += report.accepted_at[i];
    sum->chain_drafted_at[i] += report.chain_drafted_at[i];
    sum->chain_accepted_at[i] += report.chain_accepted_at[i];
  }
  sum->tokens_per_pass = sum->passes > 0 ? tokens / static_cast<double>(sum->passes) : 0;
  sum->auto_off = report.auto_off;
  sum->ms_per_token_drafted = report.ms_per_token_drafted;
  sum->ms_per_token_plain = report.ms_per_token_plain;
}

void say_summary(const RunOptions& options, const Engine& engine, size_t tokens, double prefill_tokens_per_s, double decode_tokens_per_s,
                 const SpeculationReport& speculation) {
  if (options.common.progress == ProgressMode::kNone) return;
  const TierUse host = engine.memory().host;
  say(fmt::format("{} tokens; prompt {:.1f} tokens/s, answer {:.1f} tokens/s; peak {} of {}", tokens, prefill_tokens_per_s,
                  decode_tokens_per_s, format_size(host.peak_bytes),
                  host.budget_bytes == 0 ? "unlimited memory" : format_size(host.budget_bytes)));
  if (speculation.drafted == 0) return;
  std::string why;
  if (speculation.auto_off) {
    why = fmt::format("; given up, since a token was expected to take {:.2f} ms with it, not clearly less than the {:.2f} ms without",
                      speculation.ms_per_token_drafted, speculation.ms_per_token_plain);
  }
  say(fmt::format("draft {}: {} of {} tokens accepted, {:.2f} tokens a step{}", speculation.draft_name, speculation.accepted,
                  speculation.drafted, speculation.tokens_per_pass, why));
}

}  // namespace outrigger::tool
