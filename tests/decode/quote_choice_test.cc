// QuoteChoice: quotes where they are faster than the other source's drafts, and nowhere else.
#include "src/decode/quote_choice.h"

#include <random>

#include "tests/support/engines.h"

namespace outrigger::testing {
namespace {

constexpr size_t kSure = QuoteChoice::kLeastMatch;

// A step of 10 ms, whatever its length, that takes each quoted token with this chance.
PassRecord quote(uint32_t tokens, double chance, std::mt19937& random) {
  PassRecord pass;
  pass.asked = pass.depth = pass.drafted = tokens;
  pass.verify_ms = 10;
  while (pass.accepted < tokens && std::uniform_real_distribution<double>(0, 1)(random) < chance) ++pass.accepted;
  return pass;
}

// Of 1,000 passes in a text that always seems to repeat itself, those that quoted.
uint32_t quotes_of(QuoteChoice& choice, double chance, double other_ms) {
  std::mt19937 random(1);
  PassRecord plain;
  plain.verify_ms = 10;
  choice.record_own(plain);
  uint32_t quotes = 0;
  for (int pass = 0; pass < 1000; ++pass) {
    const uint32_t tokens = choice.next(kSure, other_ms);
    if (tokens == 0) {
      choice.record_other();
      continue;
    }
    ++quotes;
    choice.record_own(quote(tokens, chance, random));
  }
  return quotes;
}

TEST_CASE("QuoteChoice: asks the other source where too little matches, or where nothing is known of what that takes") {
  QuoteChoice choice(16);
  CHECK(choice.next(0, 5) == 0);
  CHECK(choice.next(kSure - 1, 5) == 0);
  CHECK(choice.next(kSure, 0) == 0);
  CHECK(choice.next(kSure, 5) > 0);
  CHECK(QuoteChoice(3).next(16, 5) <= 3);
}

TEST_CASE("QuoteChoice: quotes on where that is faster") {
  QuoteChoice choice(16);
  CHECK(quotes_of(choice, 0.95, 3) > 950);
  CHECK(choice.next(kSure, 3) > 10);
}

TEST_CASE("QuoteChoice: leaves it where that is slower, but for a pass now and then") {
  for (const double chance : {0.0, 0.3}) {
    CAPTURE(chance);
    QuoteChoice choice(16);
    const uint32_t quotes = quotes_of(choice, chance, 3);
    CHECK(quotes >= 1000 / (QuoteChoice::kPassesPerTrial + 2));
    CHECK(quotes <= 1000 / QuoteChoice::kPassesPerTrial + 12);
  }
}

TEST_CASE("QuoteChoice: the same quotes are right beside a slow source and wrong beside a fast one") {
  QuoteChoice slow(16), fast(16);
  CHECK(quotes_of(slow, 0.7, 8) > 950);
  CHECK(quotes_of(fast, 0.7, 1.5) < 60);
}

TEST_CASE("QuoteChoice: comes back when the text begins to repeat itself") {
  QuoteChoice choice(16);
  quotes_of(choice, 0, 3);
  const uint32_t again = quotes_of(choice, 0.98, 3);
  CHECK(again > 400);
}

}  // namespace
}  // namespace outrigger::testing
