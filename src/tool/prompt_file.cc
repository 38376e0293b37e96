// Prompts from a file, line by line.
#include "src/tool/prompt_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "src/tool/files.h"

namespace outrigger::tool {
namespace {

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

}  // namespace

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

}  // namespace outrigger::tool
