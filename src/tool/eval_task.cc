// Multiple-choice tasks.
#include "src/tool/eval_task.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "src/tool/files.h"
#include "src/tool/interrupt.h"
#include "src/tool/statistics.h"

namespace outrigger::tool {
namespace {

constexpr const char* kNeed = "need {\"context\":\"...\",\"choices\":[\"...\",\"...\"],\"answer\":0}";

bool is_example(const Json& line) {
  if (!line.is_object() || !line.contains("context") || !line.contains("choices") || !line.contains("answer")) return false;
  const Json& choices = line["choices"];
  if (!line["context"].is_string() || !choices.is_array() || choices.size() < 2 || !line["answer"].is_number_unsigned()) return false;
  const bool texts = std::all_of(choices.begin(), choices.end(), [](const Json& choice) { return choice.is_string() && choice != ""; });
  return texts && line["answer"].get<uint64_t>() < choices.size();
}

Result<Choice> encode_choice(const Tokenizer& tokenizer, const std::string& context, const std::string& text) {
  const Tokenizer::EncodeOptions special = {.add_special = true, .parse_special = false};
  const auto before = tokenizer.encode(context, special);
  if (!before.is_ok()) return before.status();
  auto whole = tokenizer.encode(context + text, special);
  if (!whole.is_ok()) return whole.status();
  Choice choice;
  choice.tokens = std::move(whole).value();
  choice.bytes = text.size();
  // Where both meet a token may span them: it belongs to the choice, as does everything from the first difference on.
  const auto differs = std::mismatch(before.value().begin(), before.value().end(), choice.tokens.begin(), choice.tokens.end());
  choice.scored_from = static_cast<size_t>(differs.second - choice.tokens.begin());
  if (choice.scored_from == choice.tokens.size()) --choice.scored_from;
  if (choice.scored_from == 0) return Status(StatusCode::kInvalidArgument, "the context has no token that the choices follow");
  return choice;
}

// Sum of log p of the choice's tokens. What the session holds of them already is kept.
Result<double> log_likelihood(Session& session, const Choice& choice) {
  const std::span<const Token> all = choice.tokens;
  // The token before the choice is evaluated, since its logits predict the choice's first one.
  const size_t begin = choice.scored_from - 1;
  const std::span<const Token> held = session.tokens();
  const auto differs = std::mismatch(all.begin(), all.begin() + static_cast<ptrdiff_t>(begin), held.begin(), held.end());
  const auto kept = static_cast<size_t>(differs.first - all.begin());
  if (Status status = session.truncate(static_cast<uint32_t>(kept)); !status.is_ok()) return status;
  if (kept < begin) {
    if (Status status = session.prefill(all.subspan(kept, begin - kept), {}, interrupt_token()); !status.is_ok()) return status;
  }
  double sum = 0;
  const auto add = [&](size_t index, std::span<const float> logits) {
    sum -= negative_log_likelihood(logits, static_cast<size_t>(all[begin + index + 1]));
  };
  if (Status status = session.evaluate(all.subspan(begin, all.size() - 1 - begin), add, interrupt_token()); !status.is_ok()) return status;
  return sum;
}

}  // namespace

Result<std::vector<TaskExample>> read_task(const std::string& path, const Tokenizer& tokenizer) {
  const auto text = read_file(path);
  if (!text.is_ok()) return text.status();
  std::vector<TaskExample> examples;
  size_t number = 0;
  for (size_t begin = 0; begin < text.value().size();) {
    const size_t end = std::min(text.value().find('\n', begin), text.value().size());
    const std::string line = text.value().substr(begin, end - begin);
    const size_t offset = begin;
    begin = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const Json document = Json::parse(line, nullptr, false);
    if (!is_example(document)) {
      return Status(StatusCode::kCorruptFile, fmt::format("line {}: {}", number, kNeed)).in_file(path).at_offset(offset);
    }
    TaskExample example;
    example.answer = document["answer"].get<size_t>();
    for (const Json& choice : document["choices"]) {
      auto encoded = encode_choice(tokenizer, document["context"].get<std::string>(), choice.get<std::string>());
      if (!encoded.is_ok()) {
        const Status why = encoded.status();
        return Status(why.code(), fmt::format("line {}: {}", number, why.message())).in_file(path).at_offset(offset);
      }
      example.choices.push_back(std::move(encoded).value());
    }
    examples.push_back(std::move(example));
  }
  if (examples.empty()) return Status(StatusCode::kInvalidArgument, "no example in it, need one a line").in_file(path);
  return examples;
}

size_t longest_choice(const std::vector<TaskExample>& examples) {
  size_t longest = 0;
  for (const TaskExample& example : examples) {
    for (const Choice& choice : example.choices) longest = std::max(longest, choice.tokens.size());
  }
  return longest;
}

Result<Json> run_task(Session& session, const std::vector<TaskExample>& examples, ProgressMode progress) {
  const Interruptible interruptible;
  ProgressLine line(progress, "evaluating the task");
  size_t right = 0, right_normalised = 0, done = 0;
  for (const TaskExample& example : examples) {
    std::vector<double> sums, normalised;
    for (const Choice& choice : example.choices) {
      const auto sum = log_likelihood(session, choice);
      if (!sum.is_ok()) return sum.status();
      sums.push_back(sum.value());
      normalised.push_back(sum.value() / static_cast<double>(choice.bytes));
    }
    const auto best = [](const std::vector<double>& values) {
      return static_cast<size_t>(std::max_element(values.begin(), values.end()) - values.begin());
    };
    right += best(sums) == example.answer;
    right_normalised += best(normalised) == example.answer;
    line.update(static_cast<double>(++done) / static_cast<double>(examples.size()));
  }
  const Estimate accuracy = share(right, examples.size()), normalised = share(right_normalised, examples.size());
  return Json{{"examples", examples.size()},
              {"accuracy", {{"value", accuracy.value}, {"error", accuracy.error}}},
              {"accuracy_normalised", {{"value", normalised.value}, {"error", normalised.error}}}};
}

}  // namespace outrigger::tool
