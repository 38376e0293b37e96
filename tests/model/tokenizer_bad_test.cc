// Vocabularies that contradict themselves, and tokenizers of other kinds: each has its error, which names the key.
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "src/model/tokenizer_build.h"
#include "tests/model/tokenizer_support.h"
#include "tests/support/catch.h"

namespace outrigger {
namespace {

struct BadCase {
  const char* what;
  const char* key;  ///< named by the error
  StatusCode code;
  std::function<void(TestVocabulary&)> spoil;
};

const char* const kTokens = "tokenizer.ggml.tokens";
const char* const kTypes = "tokenizer.ggml.token_type";
const char* const kMerges = "tokenizer.ggml.merges";
const char* const kScores = "tokenizer.ggml.scores";
constexpr StatusCode kCorrupt = StatusCode::kCorruptFile, kUnsupported = StatusCode::kUnsupported;

void check(TestVocabulary vocabulary, const BadCase& bad) {
  CAPTURE(bad.what);
  REQUIRE(vocabulary.build().is_ok());
  bad.spoil(vocabulary);
  const Status status = vocabulary.build().status();
  INFO(status.to_string());
  REQUIRE(status.code() == bad.code);
  REQUIRE(status.subject() == bad.key);
  REQUIRE(status.file() == "memory");
  REQUIRE(status.message().find('\n') == std::string::npos);
}

TEST_CASE("Bad vocabularies of byte-level kind are refused with the key that is wrong") {
  const std::vector<BadCase> cases = {
      {"empty", kTokens, kCorrupt, [](auto& v) { v.tokens.clear(), v.types.clear(), v.merges.clear(); }},
      {"a type too few", kTypes, kCorrupt, [](auto& v) { v.types.pop_back(); }},
      {"a type too many", kTypes, kCorrupt, [](auto& v) { v.types.push_back(1); }},
      {"type -1", kTypes, kCorrupt, [](auto& v) { v.types[5] = -1; }},
      {"type 7", kTypes, kCorrupt, [](auto& v) { v.types[5] = 7; }},
      {"the same text twice", kTokens, kCorrupt, [](auto& v) { v.add("ab"); }},
      {"no bytes at all", kTokens, kCorrupt,
       [](auto& v) {
         v.tokens = {"ab", "cd"}, v.types = {1, 1}, v.merges.clear();
       }},
      {"merge without a space", kMerges, kCorrupt, [](auto& v) { v.merges.push_back("ab"); }},
      {"empty merge", kMerges, kCorrupt, [](auto& v) { v.merges.push_back(""); }},
      {"merge of nothing and a token", kMerges, kCorrupt, [](auto& v) { v.merges.push_back(" b"); }},
      {"merge of a token and nothing", kMerges, kCorrupt, [](auto& v) { v.merges.push_back("a "); }},
      {"merge of three", kMerges, kCorrupt, [](auto& v) { v.merges.push_back("a b c"); }},
      {"merge with an unknown left", kMerges, kCorrupt, [](auto& v) { v.merges.push_back("xy b"); }},
      {"merge with an unknown right", kMerges, kCorrupt, [](auto& v) { v.merges.push_back("a xy"); }},
      {"merge with an unknown result", kMerges, kCorrupt, [](auto& v) { v.merges.push_back("b a"); }},
      {"merge of bytes that are no text", kMerges, kCorrupt, [](auto& v) { v.merges.push_back("\xff\xfe\n \x01"); }},
      {"byte token <0x-1>", kTokens, kCorrupt, [](auto& v) { v.add("<0x-1>", 6); }},
      {"byte token <0xZZ>", kTokens, kCorrupt, [](auto& v) { v.add("<0xZZ>", 6); }},
      {"byte token of ordinary text", kTokens, kCorrupt, [](auto& v) { v.types[256] = 6; }},
      {"BOS behind the end", "tokenizer.ggml.bos_token_id", kCorrupt, [](auto& v) { v.numbers["tokenizer.ggml.bos_token_id"] = 257; }},
      {"EOS of -2", "tokenizer.ggml.eos_token_id", kCorrupt, [](auto& v) { v.numbers["tokenizer.ggml.eos_token_id"] = -2; }},
      {"EOT of 2^40", "tokenizer.ggml.eot_token_id", kCorrupt,
       [](auto& v) { v.numbers["tokenizer.ggml.eot_token_id"] = int64_t{1} << 40; }},
      {"padding behind the end", "tokenizer.ggml.padding_token_id", kCorrupt,
       [](auto& v) { v.numbers["tokenizer.ggml.padding_token_id"] = 300; }},
      {"BOS as text", "tokenizer.ggml.bos_token_id", kCorrupt, [](auto& v) { v.strings["tokenizer.ggml.bos_token_id"] = "<s>"; }},
      {"chat template as a number", "tokenizer.chat_template", kCorrupt, [](auto& v) { v.numbers["tokenizer.chat_template"] = 1; }},
      {"no tokenizer model", "tokenizer.ggml.model", kCorrupt, [](auto& v) { v.strings.erase("tokenizer.ggml.model"); }},
      {"another tokenizer", "tokenizer.ggml.model", kUnsupported, [](auto& v) { v.strings["tokenizer.ggml.model"] = "bert"; }},
      {"another pre-tokenizer", "tokenizer.ggml.pre", kUnsupported, [](auto& v) { v.strings["tokenizer.ggml.pre"] = "tekken"; }},
  };
  for (const BadCase& bad : cases) check(TestVocabulary::bpe(), bad);
}

TEST_CASE("Bad vocabularies of SentencePiece kind are refused with the key that is wrong") {
  const std::vector<BadCase> cases = {
      {"a score too few", kScores, kCorrupt, [](auto& v) { v.scores.pop_back(); }},
      {"a score too many", kScores, kCorrupt, [](auto& v) { v.scores.push_back(0); }},
      {"a score that is no number", kScores, kCorrupt, [](auto& v) { v.scores[9] = std::numeric_limits<float>::quiet_NaN(); }},
      {"the same text twice", kTokens, kCorrupt, [](auto& v) { v.add("a"); }},
      {"byte token <0x-1>", kTokens, kCorrupt, [](auto& v) { v.tokens[3] = "<0x-1>"; }},
      {"byte token <0xZZ>", kTokens, kCorrupt, [](auto& v) { v.tokens[3] = "<0xZZ>"; }},
      {"byte token without an end", kTokens, kCorrupt, [](auto& v) { v.tokens[3] = "<0x00"; }},
      {"byte token that is empty", kTokens, kCorrupt, [](auto& v) { v.tokens[3] = ""; }},
      {"a byte twice", kTokens, kCorrupt, [](auto& v) { v.add("<0x0a>", 6); }},
      {"neither a byte's token nor one for the unknown", kTokens, kCorrupt, [](auto& v) { v.tokens[0] = "nothing", v.types[70] = 1; }},
      {"unknown token behind the end", "tokenizer.ggml.unknown_token_id", kCorrupt,
       [](auto& v) { v.numbers["tokenizer.ggml.unknown_token_id"] = 264; }},
  };
  for (const BadCase& bad : cases) check(TestVocabulary::spm(), bad);
}

TEST_CASE("Bad vocabularies: keys of the wrong type and missing keys are refused") {
  const auto build = [](const std::function<void(GgufWriter&)>& add_tokens) {
    GgufWriter writer;
    writer.add_string("tokenizer.ggml.model", "gpt2");
    add_tokens(writer);
    const std::vector<std::byte> bytes = writer.finish();
    return build_tokenizer(GgufFile::open(wrap_memory(bytes)).value()).status();
  };
  const std::vector<int32_t> numbers = {1, 2, 3};
  const std::vector<std::string> texts = {"a", "b"};
  Status status = build([&](GgufWriter& writer) { writer.add_i32s(kTokens, numbers); });
  REQUIRE((status.code() == kCorrupt && status.subject() == kTokens));
  status = build([&](GgufWriter& writer) { writer.add_string(kTokens, "a"); });
  REQUIRE((status.code() == kCorrupt && status.subject() == kTokens));
  status = build([](GgufWriter&) {});
  REQUIRE((status.code() == kCorrupt && status.subject() == kTokens));
  status = build([&](GgufWriter& writer) { writer.add_strings(kTokens, texts); });
  REQUIRE((status.code() == kCorrupt && status.subject() == kMerges));
  status = build([&](GgufWriter& writer) { writer.add_strings(kTokens, texts), writer.add_i32s(kMerges, numbers); });
  REQUIRE((status.code() == kCorrupt && status.subject() == kMerges));
  status = build([&](GgufWriter& writer) { writer.add_strings(kTokens, texts), writer.add_strings(kTypes, texts); });
  REQUIRE((status.code() == kCorrupt && status.subject() == kTypes));
}

TEST_CASE("Odd vocabularies that contradict nothing are taken") {
  TestVocabulary vocabulary = TestVocabulary::bpe();
  vocabulary.add("");
  vocabulary.add("");
  vocabulary.merges.push_back("a b");                          // again: the first rule counts
  vocabulary.numbers["tokenizer.ggml.padding_token_id"] = -1;  // none
  vocabulary.numbers["tokenizer.ggml.eos_token_id"] = 0xffffffff;
  vocabulary.strings["tokenizer.chat_template"] = "{{ something never seen }}";
  const Tokenizer tokenizer = vocabulary.build().value();
  REQUIRE(tokenizer.eos() == -1);
  REQUIRE(tokenizer.encode("ab").value() == std::vector<Token>{256});
  REQUIRE(tokenizer.decode(std::vector<Token>{257}).value() == "");
  REQUIRE(tokenizer.chat_template() == "");
  vocabulary.strings.erase("tokenizer.ggml.pre");
  REQUIRE(vocabulary.build().value().kind() == "bpe (default)");
}

}  // namespace
}  // namespace outrigger
