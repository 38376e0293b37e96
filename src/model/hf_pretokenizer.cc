// HfTextRules: the steps of tokenizer.json, matched one by one.
#include "src/model/hf_pretokenizer.h"

#include <vector>

#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/io/printable.h"
#include "src/model/hf_fields.h"

namespace outrigger {
namespace {

constexpr std::string_view kSpaceMark = "\xe2\x96\x81";

// The published patterns, by the name GGUF files give them.
constexpr std::pair<std::string_view, std::string_view> kPatterns[] = {
    {R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)", "gpt-2"},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)", "llama-bpe"},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)", "qwen2"},
};

// One step of a normalizer, pre-tokenizer or post-processor.
struct Step {
  std::string type;
  JsonValue value;
};

// A member as a list of steps: none for null, those of a Sequence, or the one it is. `list` is what a Sequence calls its steps.
Result<std::vector<Step>> steps_of(JsonValue tokenizer, std::string_view member, std::string_view list) {
  std::vector<Step> steps;
  const auto add = [&](JsonValue value) -> Status {
    const std::optional<JsonValue> type = value.find("type");
    const std::optional<std::string> name = type ? type->string() : std::nullopt;
    if (!name) return value.wrong(std::string(member), "an object with a type");
    steps.push_back({*name, value});
    return {};
  };
  const std::optional<JsonValue> value = tokenizer.find_value(member);
  if (!value) return steps;
  OTR_TRY(add(*value));
  if (steps[0].type != "Sequence") return steps;
  steps.clear();
  const std::optional<JsonValue> items = value->find(list);
  if (!items || items->kind() != JsonKind::kArray)
    return (items ? *items : *value).wrong(formatted("{}.{}", member, list), "an array of steps");
  OTR_TRY(items->each_item(add));
  return steps;
}

Status unsupported(const Step& step, std::string_view member) {
  return step.value.error(StatusCode::kUnsupported, std::string(member),
                          formatted("the {} step {} is not supported: {}", member, printable(step.type), printable(step.value.raw())));
}

bool is_flag(JsonValue step, std::string_view name, bool wanted, bool absent) {
  const std::optional<JsonValue> value = step.find_value(name);
  return (value ? value->boolean().value_or(!wanted) : absent) == wanted;
}

bool says(JsonValue step, std::string_view name, std::string_view text) {
  const std::optional<JsonValue> value = step.find(name);
  return value && value->says(text);
}

// The byte-level step; with its own pattern it cuts like GPT-2.
bool is_byte_level(const Step& step, bool uses_pattern) {
  return step.type == "ByteLevel" && is_flag(step.value, "add_prefix_space", false, true) &&
         is_flag(step.value, "use_regex", uses_pattern, true);
}

// The name of a Split's pattern, or empty.
std::string_view pattern_name(const Step& step) {
  const bool keeps_all = step.type == "Split" && says(step.value, "behavior", "Isolated") && is_flag(step.value, "invert", false, false);
  const std::optional<JsonValue> pattern = step.value.find("pattern");
  for (const auto& [text, name] : kPatterns) {
    if (keeps_all && pattern && says(*pattern, "Regex", text)) return name;
  }
  return {};
}

// Replaces spaces by the mark; what SentencePiece does to a text.
bool is_space_replacement(const Step& step) {
  const std::optional<JsonValue> pattern = step.value.find("pattern");
  return step.type == "Replace" && pattern && says(*pattern, "String", " ") && says(step.value, "content", kSpaceMark);
}

Status recognise_byte_level(const std::vector<Step>& normalizers, const std::vector<Step>& steps, HfTextRules* rules) {
  for (const Step& step : normalizers) {
    if (step.type != "NFC") return unsupported(step, "normalizer");
    rules->composes = true;
  }
  if (steps.size() == 1 && is_byte_level(steps[0], true)) {
    rules->pre = "gpt-2";
  } else if (steps.size() == 2 && steps[0].type == "Digits" && is_flag(steps[0].value, "individual_digits", true, false) &&
             is_byte_level(steps[1], true)) {
    rules->pre = "smollm";
  } else if (steps.size() == 2 && is_byte_level(steps[1], false)) {
    rules->pre = pattern_name(steps[0]);
  }
  return rules->pre.empty() ? unsupported(steps.front(), "pre_tokenizer") : Status();
}

// Either as normalizer (Llama 2 as first published) or as pre-tokenizer that does not split.
Status recognise_sentencepiece(const std::vector<Step>& normalizers, const std::vector<Step>& steps, HfTextRules* rules) {
  if (steps.empty()) {
    size_t i = 0;
    if (normalizers.size() == 2 && normalizers[0].type == "Prepend" && says(normalizers[0].value, "prepend", kSpaceMark)) {
      rules->prefixes_space = true;
      i = 1;
    }
    return i + 1 == normalizers.size() && is_space_replacement(normalizers[i]) ? Status() : unsupported(normalizers.front(), "normalizer");
  }
  if (!normalizers.empty()) return unsupported(normalizers.front(), "normalizer");
  const Step& step = steps.front();
  const std::optional<JsonValue> scheme = step.value.find_value("prepend_scheme");
  const std::string when = scheme                                                ? scheme->string().value_or("")
                           : is_flag(step.value, "add_prefix_space", true, true) ? "always"
                                                                                 : "never";
  const bool is_known = when == "always" || when == "first" || when == "never";
  if (steps.size() != 1 || step.type != "Metaspace" || !says(step.value, "replacement", kSpaceMark) ||
      !is_flag(step.value, "split", false, true) || !is_known) {
    return unsupported(step, "pre_tokenizer");
  }
  rules->prefixes_space = when != "never";
  rules->prefix_once = when == "first";
  return {};
}

}  // namespace

Result<HfTextRules> recognise_text_rules(JsonValue tokenizer) {
  OTR_ASSIGN(const std::vector<Step> normalizers, steps_of(tokenizer, "normalizer", "normalizers"));
  OTR_ASSIGN(const std::vector<Step> steps, steps_of(tokenizer, "pre_tokenizer", "pretokenizers"));
  const std::optional<JsonValue> model = tokenizer.find("model");
  HfTextRules rules;
  if (model && is_flag(*model, "byte_fallback", true, false)) {
    if (steps.empty() && normalizers.empty())
      return tokenizer.error(StatusCode::kUnsupported, "normalizer", "a tokenizer that leaves spaces as they are is not supported");
    OTR_TRY(recognise_sentencepiece(normalizers, steps, &rules));
    return rules;
  }
  if (steps.empty())
    return tokenizer.error(StatusCode::kUnsupported, "pre_tokenizer",
                           "a tokenizer without pre-tokenizer and byte fallback is not supported");
  OTR_TRY(recognise_byte_level(normalizers, steps, &rules));
  return rules;
}

Result<HfFrame> recognise_frame(JsonValue tokenizer) {
  OTR_ASSIGN(const std::vector<Step> steps, steps_of(tokenizer, "post_processor", "processors"));
  HfFrame frame;
  for (const Step& step : steps) {
    if (step.type == "ByteLevel") continue;  // moves the offsets of tokens only
    const std::optional<JsonValue> single = step.value.find("single");
    if (step.type != "TemplateProcessing") return unsupported(step, "post_processor");
    if (!single || single->kind() != JsonKind::kArray) return (single ? *single : step.value).wrong("post_processor.single", "an array");
    bool is_text_seen = false;
    OTR_TRY(single->each_item([&](JsonValue item) -> Status {
      if (item.find("Sequence") && !is_text_seen) {
        is_text_seen = true;
        return {};
      }
      const std::optional<JsonValue> special = item.find("SpecialToken");
      const std::optional<JsonValue> id = special ? special->find("id") : std::nullopt;
      const std::optional<std::string> text = id ? id->string() : std::nullopt;
      std::string& place = is_text_seen ? frame.after : frame.before;
      if (!text || text->empty()) return item.wrong("post_processor.single", "special tokens around one sequence");
      if (!place.empty())
        return item.error(StatusCode::kUnsupported, "post_processor.single",
                          "more than one special token before or after a text is not supported");
      place = *text;
      return {};
    }));
  }
  return frame;
}

}  // namespace outrigger
