// Pre-tokenizers: where a text is cut before byte-pair merging, so that no token spans, say, a word and the comma after it.
#ifndef OUTRIGGER_SRC_MODEL_PRETOKENIZER_H_
#define OUTRIGGER_SRC_MODEL_PRETOKENIZER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace outrigger {

/// Each is published as a regular expression; these are scanners by hand that give the same cuts in linear time and constant memory.
enum class PreTokenizer : uint8_t {
  kGpt2,    ///< words, numbers and punctuation, each with the space before it
  kSmolLm,  ///< every digit alone, then kGpt2 on what lies between
  kLlama3,  ///< digits in threes, contractions in any case, line ends with the punctuation or spaces before them
  kQwen2,   ///< kLlama3 with every digit alone
};

/// By the name in a file's `tokenizer.ggml.pre`; nothing for a name this version does not have.
std::optional<PreTokenizer> find_pre_tokenizer(std::string_view name);

/// Length in bytes of the first pre-token of `text`, which must not be empty; at least 1. Cutting a text is calling this on what is left:
/// a cut depends on nothing before it. Invalid bytes count as characters that are neither letter, number nor space.
/// Cost: linear in the result, except for a run of white space, which is looked at up to three times.
/// @source The patterns of the models' tokenizer.json files: GPT-2 and Llama 3 as OpenAI and Meta published them.
size_t pre_token_bytes(PreTokenizer kind, std::string_view text);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_PRETOKENIZER_H_
