// Tokenizers take linear time on the texts that are worst for them: a mebibyte of one character, which is one word to most patterns.
#include <ctime>
#include <string>

#include "tests/model/tokenizer_support.h"
#include "tests/support/catch.h"

namespace outrigger {
namespace {

// Processor time of this thread, which other work on the machine does not stretch.
double cpu_seconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

#if defined(NDEBUG) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
constexpr size_t kTextBytes = 1 << 20;
constexpr double kMostSeconds = 1;
#else
constexpr size_t kTextBytes = 1 << 18;  // sanitizers cost a factor of ten
constexpr double kMostSeconds = 10;     // a quadratic algorithm would take minutes
#endif

TEST_CASE("Tokenizer: a mebibyte of one character takes under a second with every vocabulary") {
  for (const char* name : kVocabularies) {
    const Tokenizer& tokenizer = tokenizer_of(name);
    for (const std::string character : {"a", " ", "\U0001f999", "7", "\n", "\u0300", "'", "<", "<|", "\xff", "a ", "\n ", "\u4f60"}) {
      std::string text;
      while (text.size() < kTextBytes) text += character;
      const double before = cpu_seconds();
      const std::vector<Token> tokens = tokenizer.encode(text, {.parse_special = true}).value();
      const double seconds = cpu_seconds() - before;
      CAPTURE(name, character, seconds);
      CHECK(seconds < kMostSeconds);
      CHECK(tokenizer.decode(tokens).value() == text);
    }
  }
}

}  // namespace
}  // namespace outrigger
