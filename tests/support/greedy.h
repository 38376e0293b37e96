// Greedy text of a prompt that comes in chunks.
#ifndef OUTRIGGER_TESTS_SUPPORT_GREEDY_H_
#define OUTRIGGER_TESTS_SUPPORT_GREEDY_H_

#include <algorithm>
#include <vector>

#include "tests/support/engines.h"

namespace outrigger::testing {

/// The most likely tokens after the prompt, which is computed `chunk` tokens at a time.
inline std::vector<Token> greedy(const Engine& engine, std::span<const Token> prompt, uint32_t new_tokens, size_t chunk = SIZE_MAX) {
  Session session = must(Session::open(engine));
  for (; prompt.size() > chunk; prompt = prompt.subspan(chunk)) must(session.prefill(prompt.first(chunk)));
  GenerateOptions options;
  options.max_tokens = new_tokens;
  options.ignore_eos = true;
  return must(session.generate(prompt, options)).tokens;
}

}  // namespace outrigger::testing

#endif  // OUTRIGGER_TESTS_SUPPORT_GREEDY_H_
