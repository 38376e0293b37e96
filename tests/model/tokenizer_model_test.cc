// The default model's tokenizer, against the `tokenizers` package and Jinja.
#include <malloc.h>

#include <ctime>
#include <string>

#include "src/model/tokenizer_build.h"
#include "tests/model/tokenizer_support.h"
#include "tests/support/catch.h"

namespace outrigger {
namespace {

const Tokenizer& default_tokenizer() {
  static const Tokenizer tokenizer = build_tokenizer(open_default_model()).value();
  return tokenizer;
}

TEST_CASE("Default model: 250 texts have the tokens of the `tokenizers` package, both ways") {
  const Tokenizer& tokenizer = default_tokenizer();
  const nlohmann::json golden = read_golden_json("tokenizer/smollm.json");
  REQUIRE(golden.at("cases").size() > 240);
  for (const auto& entry : golden.at("cases")) {
    const std::string text = entry.at("text");
    CAPTURE(text);
    const std::vector<Token> tokens = tokenizer.encode(text).value();
    REQUIRE(tokens == entry.at("ids").get<std::vector<Token>>());
    REQUIRE(tokenizer.decode(tokens).value() == text);
  }
}

TEST_CASE("Default model: conversations have the tokens of the template's text") {
  const Tokenizer& tokenizer = default_tokenizer();
  const nlohmann::json golden = read_golden_json("tokenizer/chat.json");
  REQUIRE(golden.at("default_model").size() == 8);
  for (const auto& entry : golden.at("default_model")) {
    const std::vector<Token> tokens = tokenizer.chat(messages_from(entry.at("messages"))).value();
    CAPTURE(entry.at("text").get<std::string>());
    REQUIRE(tokens == entry.at("ids").get<std::vector<Token>>());
    REQUIRE(tokenizer.decode(tokens, true).value() == entry.at("text").get<std::string>());
  }
}

TEST_CASE("Default model: the settings of the file are read") {
  const Tokenizer& tokenizer = default_tokenizer();
  REQUIRE(tokenizer.kind() == "bpe (smollm)");
  REQUIRE(tokenizer.vocabulary_tokens() == 49152);
  REQUIRE(tokenizer.bos() == 1);
  REQUIRE(tokenizer.eos() == 2);
  REQUIRE_FALSE(tokenizer.adds_bos());
  REQUIRE(tokenizer.chat_template() == "smollm");
  REQUIRE(tokenizer.ends_generation(2));
  REQUIRE(tokenizer.ends_generation(0));
  REQUIRE_FALSE(tokenizer.ends_generation(1));
}

#if defined(NDEBUG) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
size_t heap_bytes() {
  const struct mallinfo2 heap = mallinfo2();
  return heap.uordblks + heap.hblkhd;
}

TEST_CASE("Default model: the tokenizer keeps its memory and time small") {
  const GgufFile file = open_default_model();
  size_t text_bytes = 0;
  const auto tokens = file.find("tokenizer.ggml.tokens")->as_strings().value();
  for (const std::string_view text : tokens) text_bytes += text.size();
  const size_t merges = file.find("tokenizer.ggml.merges")->count();

  const size_t before = heap_bytes();
  const std::clock_t start = std::clock();
  const Tokenizer tokenizer = build_tokenizer(file).value();
  const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  const size_t kept = heap_bytes() - before;
  CAPTURE(kept, text_bytes, tokens.size(), merges, seconds);
  CHECK(kept <= text_bytes + 40 * tokens.size() + 16 * merges);
  CHECK(kept >= text_bytes / 2);  // it is counted at all
  CHECK(seconds < 0.04);
}
#endif

}  // namespace
}  // namespace outrigger
