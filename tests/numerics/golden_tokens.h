// The tokenizer of a tiny model, as a file or a directory, against what the tokenizers package made of the same texts.
#ifndef OUTRIGGER_TESTS_NUMERICS_GOLDEN_TOKENS_H_
#define OUTRIGGER_TESTS_NUMERICS_GOLDEN_TOKENS_H_

#include <string>
#include <vector>

#include "tests/support/engines.h"
#include "tests/support/golden_text.h"

namespace outrigger::testing {

inline std::vector<Token> tokens_of(const nlohmann::json& list) { return list.get<std::vector<Token>>(); }

/// Every text of `golden`, one of them with the special tokens too, and the name of the conversation's layout.
inline void check_golden_tokens(const nlohmann::json& golden, const Tokenizer& tokenizer) {
  for (const nlohmann::json& row : golden.at("cases")) {
    const std::string text = row.at("text");
    CAPTURE(text);
    CHECK(must(tokenizer.encode(text)) == tokens_of(row.at("ids")));
  }
  CHECK(must(tokenizer.encode(golden.at("cases")[2].at("text").get<std::string>(), {.add_special = true})) ==
        tokens_of(golden.at("special")));
  CHECK(tokenizer.chat_template() == golden.at("chat").at("name").get<std::string>());
}

}  // namespace outrigger::testing

#endif  // OUTRIGGER_TESTS_NUMERICS_GOLDEN_TOKENS_H_
