// What the tokenizer tests share: the vocabularies and golden files, and small vocabularies made on the spot.
#ifndef OUTRIGGER_TESTS_MODEL_TOKENIZER_SUPPORT_H_
#define OUTRIGGER_TESTS_MODEL_TOKENIZER_SUPPORT_H_

#include <outrigger/tokenizer.h>

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "src/io/gguf.h"
#include "tests/support/gguf_writer.h"

namespace outrigger {

/// The four vocabularies of tests/golden/vocab, as unpacked by the build.
inline constexpr const char* kVocabularies[] = {"gpt-2", "llama-bpe", "llama-spm", "qwen2"};

/// An opened vocabulary file. Fails the test where it cannot be read.
GgufFile open_vocabulary(const std::string& name);
/// Its tokenizer, built once for the whole test program.
const Tokenizer& tokenizer_of(const std::string& name);

/// The default model's file: OUTRIGGER_MODEL, or the cache's. Fails the test, saying how to get it, where there is none.
GgufFile open_default_model();

std::string read_golden(const std::string& path);
nlohmann::json read_golden_json(const std::string& path);

/// The texts of vocab/cases.inp, and the tokens that <name>.out has for them.
std::vector<std::string> case_texts();
std::vector<std::vector<Token>> case_tokens(const std::string& name);

std::vector<ChatMessage> messages_from(const nlohmann::json& messages);

/// A random text of letters, digits, spaces, marks and emoji, in about `pieces` pieces.
std::string random_text(unsigned seed, int pieces);

/// A vocabulary as a file would have it. Begins as a valid one of 256 bytes and "ab"; tests break it.
struct TestVocabulary {
  static TestVocabulary bpe();  ///< bytes 0 to 255, then "ab" (256), "<|end|>"-like marks from 257 on as tests add them
  static TestVocabulary spm();  ///< <unk> <s> </s>, byte tokens from 3 on, then U+2581, a, b, U+2581a, ab (259 to 263)

  std::vector<std::string> tokens;
  std::vector<int32_t> types;
  std::vector<float> scores;
  std::vector<std::string> merges;  ///< of SentencePiece's kind too, instead of the scores, if there are any
  std::vector<int32_t> ends;
  std::map<std::string, int64_t> numbers;
  std::map<std::string, std::string> strings;
  std::map<std::string, bool> flags;

  Token add(std::string text, int32_t type = 1, float score = 0);
  GgufFile file() const;
  Result<Tokenizer> build() const;
};

/// How byte-level files spell a byte.
std::string spell_byte(int byte);

}  // namespace outrigger

#endif  // OUTRIGGER_TESTS_MODEL_TOKENIZER_SUPPORT_H_
