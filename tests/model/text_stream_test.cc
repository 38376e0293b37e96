// TextStream: what leaves it is always whole characters.
#include <outrigger/tokenizer.h>

#include <string>
#include <vector>

#include "src/model/utf8.h"
#include "tests/model/tokenizer_support.h"
#include "tests/support/catch.h"

namespace outrigger {
namespace {

bool is_well_formed(std::string_view text) {
  while (!text.empty()) {
    const Utf8Char c = decode_utf8(text);
    if (c.code == kInvalidCode) return false;
    text.remove_prefix(c.bytes);
  }
  return true;
}

std::string stream(const Tokenizer& tokenizer, const std::vector<Token>& tokens, bool with_special = false) {
  TextStream out(tokenizer, with_special);
  std::string text;
  for (const Token token : tokens) {
    const std::string part = out.push(token).value();
    REQUIRE(is_well_formed(part));
    text += part;
  }
  return text + out.finish();
}

TEST_CASE("TextStream gives the text of every published case, in whole characters") {
  for (const char* name : kVocabularies) {
    for (const std::string& text : case_texts()) {
      CAPTURE(name, text);
      const Tokenizer& tokenizer = tokenizer_of(name);
      REQUIRE(stream(tokenizer, tokenizer.encode(text).value()) == text);
    }
  }
}

TEST_CASE("TextStream waits for the rest of a character, and says so when it never comes") {
  const Tokenizer tokenizer = TestVocabulary::bpe().build().value();
  TextStream out(tokenizer);
  for (const Token byte : {0xf0, 0x9f, 0xa6}) REQUIRE(out.push(byte).value() == "");
  REQUIRE(out.push(0x99).value() == "\U0001f999");
  REQUIRE(out.push(0xe2).value() == "");
  REQUIRE(out.push(0x82).value() == "");
  REQUIRE(out.finish() == "\ufffd");
  REQUIRE(out.finish() == "");
}

TEST_CASE("TextStream puts U+FFFD where bytes can no longer become a character") {
  const Tokenizer tokenizer = TestVocabulary::bpe().build().value();
  REQUIRE(stream(tokenizer, {0xff, 'a'}) ==
          "\ufffd"
          "a");
  REQUIRE(stream(tokenizer, {0xe2, 'a'}) ==
          "\ufffd"
          "a");
  REQUIRE(stream(tokenizer, {0x80}) == "\ufffd");
  REQUIRE(stream(tokenizer, {0xed, 0xa0, 0x80}) == "\ufffd\ufffd\ufffd");
}

TEST_CASE("TextStream drops SentencePiece's first space, also behind tokens that are not written") {
  const Tokenizer& tokenizer = tokenizer_of("llama-spm");
  const std::vector<Token> tokens = tokenizer.encode("Hello  world", {.add_special = true}).value();
  REQUIRE(stream(tokenizer, tokens) == "Hello  world");
  REQUIRE(stream(tokenizer, tokens, true) == tokenizer.decode(tokens, true).value());
}

TEST_CASE("TextStream refuses ids outside the vocabulary and goes on after") {
  TextStream out(tokenizer_of("gpt-2"));
  REQUIRE(out.push(50257).status().code() == StatusCode::kInvalidArgument);
  REQUIRE(out.push(-1).status().code() == StatusCode::kInvalidArgument);
  REQUIRE(out.push(31373).value() == "hello");
}

}  // namespace
}  // namespace outrigger
