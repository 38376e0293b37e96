// outrigger run --prompts: many prompts, one after the other.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "src/tool/files.h"
#include "src/tool/generation.h"
#include "src/tool/interrupt.h"
#include "src/tool/loading.h"

namespace outrigger::tool {
namespace {

struct Prompt {
  std::vector<Token> tokens;
  uint32_t new_tokens = 0;
};

Result<Prompt> parse_prompt(const Tokenizer& tokenizer, const RunOptions& options, const std::string& line) {
  const Json document = Json::parse(line, nullptr, false);
  const auto bad = [](const char* need) { return Status(StatusCode::kCorruptFile, need); };
  if (!document.is_object() || !document.contains("prompt") || !document["prompt"].is_string()) {
    return bad("need an object {\"prompt\": \"...\", \"n\": 64}");
  }
  Prompt prompt;
  prompt.new_tokens = options.new_tokens.value_or(kDefaultNewTokens);
  if (document.contains("n")) {
    const Json& n = document["n"];
    if (!n.is_number_unsigned() || n.get<uint64_t>() > UINT32_MAX) return bad("\"n\" is to be a number of tokens");
    prompt.new_tokens = n.get<uint32_t>();
  }
  auto tokens = prompt_tokens(tokenizer, options, document["prompt"].get<std::string>());
  if (!tokens.is_ok()) return tokens.status();
  prompt.tokens = std::move(tokens).value();
  return prompt;
}

Result<std::vector<Prompt>> read_prompts(const Tokenizer& tokenizer, const RunOptions& options) {
  const auto text = read_file(options.prompts_file);
  if (!text.is_ok()) return text.status();
  std::vector<Prompt> prompts;
  size_t number = 0;
  for (size_t begin = 0; begin < text.value().size();) {
    const size_t end = std::min(text.value().find('\n', begin), text.value().size());
    const std::string line = text.value().substr(begin, end - begin);
    ++number;
    if (line.find_first_not_of(" \t\r") != std::string::npos) {
      auto prompt = parse_prompt(tokenizer, options, line);
      if (!prompt.is_ok()) {
        const Status& why = prompt.status();
        return Status(why.code(), fmt::format("line {}: {}", number, why.message())).in_file(options.prompts_file).at_offset(begin);
      }
      prompts.push_back(std::move(prompt).value());
    }
    begin = end + 1;
  }
  if (prompts.empty()) return Status(StatusCode::kInvalidArgument, "no prompt in it, need one a line").in_file(options.prompts_file);
  return prompts;
}

// The workload that has room for each of them.
Result<Workload> workload_for_all(const RunOptions& options, const ModelInfo& info, const std::vector<Prompt>& prompts) {
  Workload all;
  all.prompt_tokens = all.new_tokens = all.context_tokens = 0;
  for (const Prompt& prompt : prompts) {
    const auto workload = workload_for(options, info, prompt.tokens.size(), prompt.new_tokens);
    if (!workload.is_ok()) return workload.status();
    all.prompt_tokens = std::max(all.prompt_tokens, workload.value().prompt_tokens);
    all.context_tokens = std::max(all.context_tokens, workload.value().context_tokens);
  }
  // Of all prompts the longest is planned for, with what is left of the context.
  all.new_tokens = all.context_tokens - all.prompt_tokens;
  return all;
}

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
};

}  // namespace

Status run_prompts(const Model& model, const Tokenizer& tokenizer, const RunOptions& options) {
  const auto prompts = read_prompts(tokenizer, options);
  if (!prompts.is_ok()) return prompts.status();
  auto workload = workload_for_all(options, model.info(), prompts.value());
  if (!workload.is_ok()) return workload.status();
  CommonOptions common = options.common;
  plan_for_draft(options.future, options.sampling, &common, &workload.value());
  double load_ms = 0;
  const auto engine = load_engine(model, common, workload.value(), &load_ms);
  if (!engine.is_ok()) return engine.status();
  auto session = open_session(engine.value(), options, &load_ms);
  if (!session.is_ok()) return session.status();

  const bool stream = !options.common.json;
  Totals totals;
  Json results = Json::array();
  const Stopwatch watch;
  for (const Prompt& prompt : prompts.value()) {
    if (stream) {
      const Status status =
          write_out(fmt::format("{}==> {}/{} <==\n", totals.runs == 0 ? "" : "\n\n", totals.runs + 1, prompts.value().size()));
      if (!status.is_ok()) return status;
    }
    if (Status status = session->truncate(0); !status.is_ok()) return status;
    const auto result = generate_text(session.value(), prompt.tokens, options, prompt.new_tokens, stream);
    if (!result.is_ok()) return result.status();
    totals.add(prompt, result.value());
    if (!stream) results.push_back(generation_json(prompt.tokens, result.value(), -1));
    if (was_interrupted()) break;
  }
  const double wall_ms = watch.ms();
  if (Status status = write_trace(engine.value(), options.common); !status.is_ok()) return status;

  const double prefill_rate = Totals::per_s(totals.prompt_tokens, totals.prefill_ms);
  const double decode_rate = Totals::per_s(totals.tokens_after_first, totals.decode_ms);
  if (stream) {
    say_summary(options, engine.value(), totals.tokens, prefill_rate, decode_rate, totals.speculation);
    return write_out("\n");
  }
  return write_json({{"results", results},
                     {"timings",
                      {{"load_ms", load_ms},
                       {"prefill_ms", totals.prefill_ms},
                       {"prefill_tokens_per_s", prefill_rate},
                       {"time_to_first_token_ms", totals.first_token_ms / static_cast<double>(totals.runs)},
                       {"decode_ms", totals.decode_ms},
                       {"decode_tokens_per_s", decode_rate},
                       {"total_tokens_per_s", Totals::per_s(totals.tokens, wall_ms)}}},
                     {"memory", memory_json(engine.value())},
                     {"streamed", streamed_json(engine.value())},
                     {"experts", experts_json(engine.value())},
                     {"plan",
                      {{"predicted_prefill_ms", engine.value().plan().predicted_prefill_ms},
                       {"predicted_decode_tokens_per_s", engine.value().plan().predicted_decode_tokens_per_s}}},
                     {"speculation", speculation_json(totals.speculation)},
                     {"model", model_json(model)},
                     {"seed", options.sampling.seed}});
}

}  // namespace outrigger::tool
