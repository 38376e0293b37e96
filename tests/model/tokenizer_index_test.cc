// TextIndex, MergeTable and SpecialTexts against the standard containers.
#include "src/model/tokenizer_index.h"

#include <fmt/format.h>

#include <map>
#include <random>
#include <string>
#include <vector>

#include "src/model/tokenizer_vocabulary.h"
#include "tests/support/catch.h"

namespace outrigger {
namespace {

TEST_CASE("TextIndex finds what was put in, and nothing else, when it is full") {
  for (const size_t count : {size_t{1}, size_t{3}, size_t{4}, size_t{7}, size_t{1000}, size_t{40000}}) {
    CAPTURE(count);
    std::vector<std::string> texts;
    for (size_t i = 0; i < count; ++i) texts.push_back(fmt::format("t{}", i * 7919));
    const auto text_of = [&](Token token) { return std::string_view(texts[static_cast<size_t>(token)]); };
    TextIndex index(count);
    for (size_t i = 0; i < count; ++i) REQUIRE(index.insert(static_cast<Token>(i), text_of) == -1);
    for (size_t i = 0; i < count; ++i) REQUIRE(index.find(texts[i], text_of) == static_cast<Token>(i));
    for (size_t i = 0; i < count; ++i) REQUIRE(index.find(fmt::format("u{}", i), text_of) == -1);
    REQUIRE(index.insert(0, text_of) == 0);
  }
}

TEST_CASE("TextIndex without room finds nothing") {
  REQUIRE(TextIndex().find("a", [](Token) { return std::string_view(); }) == -1);
}

TEST_CASE("MergeTable gives each pair its first rule, and none to other pairs") {
  for (const size_t count : {size_t{0}, size_t{1}, size_t{2}, size_t{100}, size_t{50000}}) {
    CAPTURE(count);
    std::mt19937 random(static_cast<unsigned>(count));
    const unsigned tokens = 300;  // few, so that pairs repeat
    std::vector<MergeTable::Rule> rules;
    std::map<std::pair<Token, Token>, Merge> truth;
    for (size_t i = 0; i < count; ++i) {
      const MergeTable::Rule rule = {static_cast<Token>(random() % tokens), static_cast<Token>(random() % tokens),
                                     static_cast<Token>(random() % tokens)};
      rules.push_back(rule);
      truth.try_emplace({rule.left, rule.right}, Merge{static_cast<uint32_t>(i), rule.merged});
    }
    const MergeTable table(rules);
    for (Token left = 0; left < static_cast<Token>(tokens); ++left) {
      for (Token right = 0; right < static_cast<Token>(tokens); ++right) {
        const auto known = truth.find({left, right});
        const Merge expected = known == truth.end() ? Merge{} : known->second, found = table.find(left, right);
        if (found.rank != expected.rank || found.merged != expected.merged) FAIL(left << " " << right);
      }
    }
  }
}

TEST_CASE("SpecialTexts cut a text at the longest token of each place") {
  Vocabulary vocabulary(5, 100, false);
  for (const char* text : {"<a>", "<a><b>", "", "x", "<<"}) vocabulary.append(text, TokenType::kControl, false);
  const SpecialTexts specials(vocabulary, {0, 1, 2, 3, 4});
  const auto cut = [&](std::string_view text) {
    std::string shown;
    specials.split(
        text, [&](std::string_view part) { shown += fmt::format("'{}'", part); }, [&](Token token) { shown += std::to_string(token); });
    return shown;
  };
  REQUIRE(cut("") == "");
  REQUIRE(cut("plain") == "'plain'");
  REQUIRE(cut("1<a>2") == "'1'0'2'");
  REQUIRE(cut("<a><b><a><") == "10'<'");
  REQUIRE(cut("<a") == "'<a'");
  REQUIRE(cut("xx<<<a>") == "3340");
  REQUIRE(cut("b<<x") == "'b'43");
}

TEST_CASE("SpecialTexts leave out texts too long to be looked for at every place") {
  Vocabulary vocabulary(2, 1000, false);
  vocabulary.append(std::string(SpecialTexts::kMostBytes, 'y'), TokenType::kControl, false);
  vocabulary.append(std::string(SpecialTexts::kMostBytes + 1, 'z'), TokenType::kControl, false);
  const SpecialTexts specials(vocabulary, {0, 1});
  size_t tokens = 0;
  const std::string text = std::string(SpecialTexts::kMostBytes, 'y') + std::string(SpecialTexts::kMostBytes + 1, 'z');
  specials.split(
      text, [](std::string_view) {}, [&](Token) { ++tokens; });
  REQUIRE(tokens == 1);
}

}  // namespace
}  // namespace outrigger
