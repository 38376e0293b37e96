// Tokenizers: the published cases, and plain twins of the two algorithms.
#include <fmt/format.h>
#include <outrigger/tokenizer.h>

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "src/model/pretokenizer.h"
#include "tests/model/tokenizer_support.h"
#include "tests/support/catch.h"

namespace outrigger {
namespace {

TEST_CASE("Tokenizer: every published case of every vocabulary is exact, both ways") {
  const std::vector<std::string> texts = case_texts();
  REQUIRE(texts.size() >= 40);
  for (const char* name : kVocabularies) {
    const std::vector<std::vector<Token>> expected = case_tokens(name);
    REQUIRE(texts.size() == expected.size());
    for (size_t i = 0; i < texts.size(); ++i) {
      CAPTURE(name, i, texts[i]);
      const std::vector<Token> tokens = tokenizer_of(name).encode(texts[i]).value();
      REQUIRE(tokens == expected[i]);
      REQUIRE(tokenizer_of(name).decode(tokens).value() == texts[i]);
    }
  }
}

// The definition: of all neighbours that may join, the pair of the lowest rank, the leftmost of equals; and again.
template <typename Rank>
void merge_plainly(std::vector<std::string>& parts, const Rank& rank) {
  for (;;) {
    size_t best = parts.size();
    double lowest = 0;
    for (size_t i = 0; i + 1 < parts.size(); ++i) {
      const auto found = rank(parts[i], parts[i + 1]);
      if (found && (best == parts.size() || *found < lowest)) best = i, lowest = *found;
    }
    if (best == parts.size()) return;
    parts[best] += parts[best + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
}

std::vector<std::string> pieces_of(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<std::string> pieces;
  const std::vector<Token> tokens = tokenizer.encode(text).value();
  for (const Token token : tokens) pieces.push_back(tokenizer.piece(token).value());
  return pieces;
}

TEST_CASE("Tokenizer: byte-level merging is the plain definition's on random text") {
  const GgufFile file = open_vocabulary("gpt-2");
  const auto listed = file.find("tokenizer.ggml.merges")->as_strings().value();
  std::map<std::string, double, std::less<>> ranks;
  for (size_t i = 0; i < listed.size(); ++i) ranks.try_emplace(std::string(listed[i]), static_cast<double>(i));
  const auto rank = [&](const std::string& left, const std::string& right) -> std::optional<double> {
    std::string spelled;
    for (const char byte : left) spelled += spell_byte(static_cast<unsigned char>(byte));
    spelled += ' ';
    for (const char byte : right) spelled += spell_byte(static_cast<unsigned char>(byte));
    const auto found = ranks.find(spelled);
    return found == ranks.end() ? std::nullopt : std::optional(found->second);
  };
  for (unsigned seed = 0; seed < 40; ++seed) {
    const std::string text = random_text(seed, 40) + std::string(seed * 3, "a -=\n"[seed % 5]);
    CAPTURE(seed, text);
    std::vector<std::string> expected;
    for (std::string_view rest = text; !rest.empty();) {
      const size_t bytes = pre_token_bytes(PreTokenizer::kGpt2, rest);
      std::vector<std::string> parts;
      for (const char byte : rest.substr(0, bytes)) parts.emplace_back(1, byte);
      merge_plainly(parts, rank);
      expected.insert(expected.end(), parts.begin(), parts.end());
      rest.remove_prefix(bytes);
    }
    REQUIRE(pieces_of(tokenizer_of("gpt-2"), text) == expected);
  }
}

TEST_CASE("Tokenizer: SentencePiece merging is the plain definition's on random text, over the whole of it at once") {
  const GgufFile file = open_vocabulary("llama-spm");
  const auto listed = file.find("tokenizer.ggml.tokens")->as_strings().value();
  const auto scores = file.find("tokenizer.ggml.scores")->as_floats().value();
  std::map<std::string, double, std::less<>> ranks;
  for (size_t i = 259; i < listed.size(); ++i) {
    std::string text(listed[i]);
    for (size_t at; (at = text.find("\u2581")) != std::string::npos;) text.replace(at, 3, " ");
    ranks[text] = -static_cast<double>(scores[i]);
  }
  const auto rank = [&](const std::string& left, const std::string& right) -> std::optional<double> {
    const auto found = ranks.find(left + right);
    return found == ranks.end() ? std::nullopt : std::optional(found->second);
  };
  for (unsigned seed = 100; seed < 120; ++seed) {
    std::string text = random_text(seed, 30);
    CAPTURE(seed, text);
    std::string normal(1, ' ');
    normal += text;
    for (size_t at; (at = normal.find("\u2581")) != std::string::npos;) normal.replace(at, 3, " ");
    std::vector<std::string> expected;
    for (size_t at = 0; at < normal.size();) {
      size_t bytes = 1;
      while (at + bytes < normal.size() && (normal[at + bytes] & 0xc0) == 0x80) ++bytes;
      expected.push_back(normal.substr(at, bytes));
      at += bytes;
    }
    merge_plainly(expected, rank);
    std::vector<std::string> by_bytes;  // what no token has falls apart into bytes
    for (const std::string& part : expected) {
      if (ranks.count(part)) {
        by_bytes.push_back(part);
      } else {
        for (const char byte : part) by_bytes.emplace_back(1, byte);
      }
    }
    REQUIRE(pieces_of(tokenizer_of("llama-spm"), text) == by_bytes);
  }
}

TEST_CASE("Tokenizer: decoding gives back any text, and any bytes at all") {
  for (const char* name : kVocabularies) {
    const Tokenizer& tokenizer = tokenizer_of(name);
    for (unsigned seed = 0; seed < 50; ++seed) {
      std::string text = random_text(seed, 20);
      // SentencePiece writes a space for its visible sign of one.
      for (size_t at; !std::string_view(name).compare("llama-spm") && (at = text.find("\u2581")) != std::string::npos;)
        text.replace(at, 3, " ");
      CAPTURE(name, seed, text);
      REQUIRE(tokenizer.decode(tokenizer.encode(text).value()).value() == text);
    }
    std::string bytes;
    for (int i = 0; i < 512; ++i) bytes += static_cast<char>(i * 37 % 256);
    REQUIRE(tokenizer.decode(tokenizer.encode(bytes).value()).value() == bytes);
    for (const char* broken : {"\xff", "a\xc3", "\xe2\x82 x", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xc0\x80"}) {
      REQUIRE(tokenizer.decode(tokenizer.encode(broken).value()).value() == broken);
    }
  }
}

TEST_CASE("Tokenizer: the text of special tokens is plain text unless it is asked to be more") {
  const std::map<std::string, std::pair<std::string, Token>> marks = {{"gpt-2", {"<|endoftext|>", 50256}},
                                                                      {"llama-bpe", {"<|eot_id|>", 128009}},
                                                                      {"llama-spm", {"</s>", 2}},
                                                                      {"qwen2", {"<|im_end|>", 151645}}};
  for (const auto& [name, mark] : marks) {
    CAPTURE(name);
    const Tokenizer& tokenizer = tokenizer_of(name);
    const std::string text = fmt::format("a{}b", mark.first);
    const std::vector<Token> plain = tokenizer.encode(text).value();
    REQUIRE(std::find(plain.begin(), plain.end(), mark.second) == plain.end());
    REQUIRE(tokenizer.decode(plain).value() == text);
    const std::vector<Token> parsed = tokenizer.encode(text, {.parse_special = true}).value();
    REQUIRE(std::count(parsed.begin(), parsed.end(), mark.second) == 1);
    REQUIRE(tokenizer.piece(mark.second).value() == "");
    REQUIRE(tokenizer.piece(mark.second, true).value() == mark.first);
  }
}

TEST_CASE("Tokenizer: begin and end of text are added as the file says, or as its kind has it") {
  const auto encode = [](const Tokenizer& tokenizer) { return tokenizer.encode("a", {.add_special = true}).value(); };
  REQUIRE(encode(tokenizer_of("gpt-2")).size() == 1);
  REQUIRE(encode(tokenizer_of("qwen2")).size() == 1);
  REQUIRE(encode(tokenizer_of("llama-bpe")).front() == 128000);
  REQUIRE(encode(tokenizer_of("llama-spm")).front() == 1);
  TestVocabulary vocabulary = TestVocabulary::spm();
  vocabulary.flags = {
      {"tokenizer.ggml.add_bos_token", false}, {"tokenizer.ggml.add_eos_token", true}, {"tokenizer.ggml.add_space_prefix", false}};
  REQUIRE(encode(vocabulary.build().value()) == std::vector<Token>{260, 2});
  REQUIRE_FALSE(vocabulary.build().value().adds_bos());
}

TEST_CASE("Tokenizer: generation ends at the tokens that the file or their texts say") {
  REQUIRE(tokenizer_of("llama-bpe").ends_generation(128001));
  REQUIRE(tokenizer_of("llama-bpe").ends_generation(128009));
  REQUIRE_FALSE(tokenizer_of("llama-bpe").ends_generation(128000));
  REQUIRE(tokenizer_of("qwen2").ends_generation(151645));
  REQUIRE(tokenizer_of("llama-spm").ends_generation(2));
  REQUIRE_FALSE(tokenizer_of("llama-spm").ends_generation(1));
  TestVocabulary vocabulary = TestVocabulary::bpe();
  const Token mislabelled = vocabulary.add("<|im_end|>", 1), turn = vocabulary.add("<turn>", 3);
  vocabulary.numbers["tokenizer.ggml.eot_token_id"] = turn;
  const Tokenizer tokenizer = vocabulary.build().value();
  REQUIRE(tokenizer.ends_generation(mislabelled));
  REQUIRE(tokenizer.ends_generation(turn));
  REQUIRE_FALSE(tokenizer.ends_generation(0));
  REQUIRE_FALSE(tokenizer.ends_generation(-1));
}

TEST_CASE("Tokenizer: a user-defined token is plain text, unless it looks like a mark") {
  TestVocabulary vocabulary = TestVocabulary::bpe();
  const Token spaces = vocabulary.add("   ", 4), mark = vocabulary.add("<think>", 4);
  const Tokenizer tokenizer = vocabulary.build().value();
  REQUIRE(tokenizer.encode("a   b").value() == std::vector<Token>{'a', spaces, 'b'});
  REQUIRE(tokenizer.encode("<think>").value().size() == 7);
  REQUIRE(tokenizer.encode("<think>   ", {.parse_special = true}).value() == std::vector<Token>{mark, spaces});
  REQUIRE(tokenizer.decode(std::vector<Token>{mark, spaces}).value() == "<think>   ");
}

TEST_CASE("Tokenizer: no merge makes a control token out of text") {
  TestVocabulary vocabulary = TestVocabulary::bpe();
  vocabulary.add("abab", 3);
  vocabulary.merges.push_back("ab ab");
  REQUIRE(vocabulary.build().value().encode("abab").value() == std::vector<Token>{256, 256});
  vocabulary.types.back() = 1;
  REQUIRE(vocabulary.build().value().encode("abab").value() == std::vector<Token>{257});
}

TEST_CASE("Tokenizer: bytes without a token are left out of byte-level text, and unknown in SentencePiece") {
  TestVocabulary bpe = TestVocabulary::bpe();
  bpe.tokens['c'] = "something else";
  REQUIRE(bpe.build().value().encode("acb").value() == std::vector<Token>{256});
  TestVocabulary spm = TestVocabulary::spm();
  spm.types[3 + 0xc3] = 1;
  REQUIRE(spm.build().value().encode("b\u00e9").value() == std::vector<Token>{259, 261, 0});
}

TEST_CASE("Tokenizer: SentencePiece drops the space it added, and only that") {
  const Tokenizer& tokenizer = tokenizer_of("llama-spm");
  REQUIRE(tokenizer.encode("").value().empty());
  const std::vector<Token> tokens = tokenizer.encode("Hello world", {.add_special = true}).value();
  REQUIRE(tokenizer.piece(tokens[1]).value() == " Hello");
  REQUIRE(tokenizer.decode(tokens).value() == "Hello world");
  REQUIRE(tokenizer.decode(tokens, true).value() == "<s> Hello world");
  REQUIRE(tokenizer.decode(tokenizer.encode("  two").value()).value() == "  two");
}

TEST_CASE("Tokenizer: words that reach across spaces are still found where a vocabulary has them") {
  TestVocabulary vocabulary = TestVocabulary::spm();
  const Token across = vocabulary.add("a\u2581", 1, -1), longer = vocabulary.add("a\u2581b", 1, -2);
  const Tokenizer tokenizer = vocabulary.build().value();
  REQUIRE(tokenizer.encode("a a b").value() == std::vector<Token>{259, across, longer});
}

TEST_CASE("Tokenizer: ids outside the vocabulary are refused") {
  const Tokenizer& tokenizer = tokenizer_of("gpt-2");
  REQUIRE(tokenizer.vocabulary_tokens() == 50257);
  REQUIRE(tokenizer.kind() == "bpe (gpt-2)");
  REQUIRE(tokenizer_of("llama-spm").kind() == "spm");
  for (const Token token : {-1, 50257, 0x7fffffff}) {
    REQUIRE(tokenizer.piece(token).status().code() == StatusCode::kInvalidArgument);
    REQUIRE(tokenizer.decode(std::vector<Token>{0, token}).status().code() == StatusCode::kInvalidArgument);
  }
  // The size is refused before a byte is looked at.
  REQUIRE(tokenizer.encode(std::string_view("x", size_t{1} << 31)).status().code() == StatusCode::kInvalidArgument);
}

TEST_CASE("Tokenizer: threads share one") {
  const Tokenizer& tokenizer = tokenizer_of("llama-bpe");
  const std::string text = random_text(5, 2000);
  const std::vector<Token> expected = tokenizer.encode(text).value();
  std::vector<std::vector<Token>> seen(4);
  std::vector<std::thread> threads;
  for (auto& tokens : seen) threads.emplace_back([&] { tokens = tokenizer.encode(text).value(); });
  for (std::thread& thread : threads) thread.join();
  for (const auto& tokens : seen) REQUIRE(tokens == expected);
}

}  // namespace
}  // namespace outrigger
