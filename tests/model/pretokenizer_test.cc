// Pre-tokenizers: the scanners against the published patterns as the `regex` package runs them.
#include "src/model/pretokenizer.h"

#include <sstream>
#include <string>
#include <vector>

#include "tests/model/tokenizer_support.h"
#include "tests/support/catch.h"

namespace outrigger {
namespace {

constexpr PreTokenizer kAll[] = {PreTokenizer::kGpt2, PreTokenizer::kSmolLm, PreTokenizer::kLlama3, PreTokenizer::kQwen2};

std::vector<std::string> cut(PreTokenizer kind, std::string_view text) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const size_t bytes = pre_token_bytes(kind, text);
    REQUIRE(bytes > 0);
    REQUIRE(bytes <= text.size());
    parts.emplace_back(text.substr(0, bytes));
    text.remove_prefix(bytes);
  }
  return parts;
}

std::string lengths(const std::vector<std::string>& parts) {
  std::string list;
  for (const std::string& part : parts) {
    if (!list.empty()) list += ',';
    list += std::to_string(part.size());
  }
  return list;
}

std::string from_hex(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i < hex.size(); i += 2) bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return bytes;
}

TEST_CASE("Pre-tokenizers cut 2,000 random texts where the published patterns do") {
  std::istringstream lines(read_golden("tokenizer/pretokens.txt"));
  size_t texts = 0;
  for (std::string hex; lines >> hex; ++texts) {
    CAPTURE(hex);
    for (const PreTokenizer kind : kAll) {
      std::string expected;
      REQUIRE(lines >> expected);
      CAPTURE(static_cast<int>(kind));
      REQUIRE(lengths(cut(kind, from_hex(hex))) == expected);
    }
  }
  REQUIRE(texts == 2000);
}

TEST_CASE("Pre-tokenizers differ where they should") {
  using Parts = std::vector<std::string>;
  const std::string text = "I'LL  see 1234\n";
  REQUIRE(cut(PreTokenizer::kGpt2, text) == Parts{"I", "'", "LL", " ", " see", " 1234", "\n"});
  REQUIRE(cut(PreTokenizer::kSmolLm, text) == Parts{"I", "'", "LL", " ", " see", " ", "1", "2", "3", "4", "\n"});
  REQUIRE(cut(PreTokenizer::kLlama3, text) == Parts{"I", "'LL", " ", " see", " ", "123", "4", "\n"});
  REQUIRE(cut(PreTokenizer::kQwen2, text) == Parts{"I", "'LL", " ", " see", " ", "1", "2", "3", "4", "\n"});
}

TEST_CASE("Pre-tokenizers take bytes that are no character as neither letter, number nor space") {
  for (const PreTokenizer kind : kAll) {
    CAPTURE(static_cast<int>(kind));
    REQUIRE(cut(kind, "a\xff\xc3") == std::vector<std::string>{"a", "\xff\xc3"});
    REQUIRE(cut(kind, "\xe2\x82") == std::vector<std::string>{"\xe2\x82"});            // cut short
    REQUIRE(cut(kind, "\xed\xa0\x80!") == std::vector<std::string>{"\xed\xa0\x80!"});  // a surrogate
  }
}

TEST_CASE("Pre-tokenizers are found by the names files use, and by no other") {
  REQUIRE(find_pre_tokenizer("gpt-2") == PreTokenizer::kGpt2);
  REQUIRE(find_pre_tokenizer("default") == PreTokenizer::kGpt2);
  REQUIRE(find_pre_tokenizer("smollm") == PreTokenizer::kSmolLm);
  REQUIRE(find_pre_tokenizer("llama-bpe") == PreTokenizer::kLlama3);
  REQUIRE(find_pre_tokenizer("llama3") == PreTokenizer::kLlama3);
  REQUIRE(find_pre_tokenizer("qwen2") == PreTokenizer::kQwen2);
  REQUIRE_FALSE(find_pre_tokenizer("deepseek-v3"));
  REQUIRE_FALSE(find_pre_tokenizer(""));
}

}  // namespace
}  // namespace outrigger
