// One generation and the fields that report it.
#include "src/tool/generation.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

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

Result<GenerateResult> generate_text(Session& session, std::span<const Token> prompt, const RunOptions& options, uint32_t new_tokens,
                                     bool stream) {
  const Interruptible interruptible;
  ProgressLine progress(options.common.progress, "reading the prompt");
  Status written;
  GenerateOptions generate;
  generate.max_tokens = new_tokens;
  generate.sampling = options.sampling;
  generate.stop = options.stop;
  generate.ignore_eos = options.ignore_eos;
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

Json speculation_json() {
  return {{"draft", "none"}, {"passes", 0}, {"drafted", 0}, {"accepted", 0}, {"tokens_per_pass", 0}, {"auto_off", false}};
}

void say_summary(const RunOptions& options, const Engine& engine, size_t tokens, double prefill_tokens_per_s, double decode_tokens_per_s) {
  if (options.common.progress == ProgressMode::kNone) return;
  const TierUse host = engine.memory().host;
  say(fmt::format("{} tokens; prompt {:.1f} tokens/s, answer {:.1f} tokens/s; peak {} of {}", tokens, prefill_tokens_per_s,
                  decode_tokens_per_s, format_size(host.peak_bytes),
                  host.budget_bytes == 0 ? "unlimited memory" : format_size(host.budget_bytes)));
}

}  // namespace outrigger::tool
