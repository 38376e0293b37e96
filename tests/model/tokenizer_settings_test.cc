// What only Hugging Face files say of a tokenizer, as keys of the made header.
#include <string>
#include <vector>

#include "src/model/utf8.h"
#include "tests/model/tokenizer_support.h"
#include "tests/support/catch.h"

namespace outrigger {
namespace {

using Tokens = std::vector<Token>;

TEST_CASE("compose_utf8: marks join their letters, and what is composed or no text stays") {
  const auto composed = [](std::string_view text) {
    std::string out;
    return compose_utf8(text, out) ? out : std::string(text);
  };
  CHECK(composed("plain") == "plain");
  CHECK(composed("") == "");
  CHECK(composed("cafe\u0301s e\u0301") == "caf\u00e9s \u00e9");
  CHECK(composed("A\u030a\u212b") == "\u00c5\u00c5");
  CHECK(composed("\u1100\u1161\u11a8") == "\uac01");
  CHECK(composed("x\u0323\u0301 x\u0301\u0323") == "x\u0323\u0301 x\u0323\u0301");
  CHECK(composed("\xff e\u0301 \xc3") == "\xff \u00e9 \xc3");
  std::string marks = "e";
  for (int i = 0; i < 200000; ++i) marks += i % 2 ? "\u0301" : "\u0323";
  CHECK(composed(marks + " e\u0301") == marks + " \u00e9");  // at once: ordering 200,000 marks would take minutes
}

TEST_CASE("Tokenizer: compose_text makes the two spellings of a letter one") {
  TestVocabulary vocabulary = TestVocabulary::bpe();
  vocabulary.flags["tokenizer.ggml.compose_text"] = true;
  const Tokenizer composing = vocabulary.build().value();
  CHECK(composing.encode("e\u0301").value() == composing.encode("\u00e9").value());
  const Tokenizer plain = TestVocabulary::bpe().build().value();
  CHECK(plain.encode("e\u0301").value() != plain.encode("\u00e9").value());
}

TEST_CASE("Tokenizer: space_prefix_once puts the space at the very start only") {
  TestVocabulary vocabulary = TestVocabulary::spm();
  const Token bos = 1, space_a = 262, a = 260;
  const Tokenizer always = vocabulary.build().value();
  CHECK(always.encode("a<s>a", {.parse_special = true}).value() == Tokens{space_a, bos, space_a});
  vocabulary.flags["tokenizer.ggml.space_prefix_once"] = true;
  const Tokenizer once = vocabulary.build().value();
  CHECK(once.encode("a<s>a", {.parse_special = true}).value() == Tokens{space_a, bos, a});
  CHECK(once.encode("a", {.add_special = true}).value() == Tokens{bos, space_a});
}

TEST_CASE("Tokenizer: merges without scores decide what SentencePiece joins") {
  TestVocabulary vocabulary = TestVocabulary::spm();
  vocabulary.merges = {"a b"};  // and not the space with a, which the scores would join first
  CHECK(vocabulary.build().value().encode("ab").value() == Tokens{259, 263});
  CHECK(TestVocabulary::spm().build().value().encode("ab").value() == Tokens{262, 261});
}

TEST_CASE("Tokenizer: ignore_merges takes a whole word that the vocabulary has") {
  TestVocabulary vocabulary = TestVocabulary::bpe();
  const Token word = vocabulary.add("xyz");
  CHECK(vocabulary.build().value().encode("xyz").value().size() == 3);
  vocabulary.flags["tokenizer.ggml.ignore_merges"] = true;
  CHECK(vocabulary.build().value().encode("xyz").value() == Tokens{word});
}

TEST_CASE("Tokenizer: each of the end tokens listed ends a text, and one outside the vocabulary is refused") {
  TestVocabulary vocabulary = TestVocabulary::bpe();
  vocabulary.ends = {5, 77};
  const Tokenizer tokenizer = vocabulary.build().value();
  for (Token token = 0; token < tokenizer.vocabulary_tokens(); ++token)
    CHECK(tokenizer.ends_generation(token) == (token == 5 || token == 77));
  for (const int32_t wrong : {-1, 257}) {
    vocabulary.ends = {wrong};
    const Status status = vocabulary.build().status();
    CHECK(status.code() == StatusCode::kCorruptFile);
    CHECK(status.subject() == "tokenizer.ggml.end_token_ids");
  }
}

}  // namespace
}  // namespace outrigger
