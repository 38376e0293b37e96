// Batches of texts, and the same texts one by one to compare them with.
#ifndef OUTRIGGER_TESTS_SUPPORT_BATCHES_H_
#define OUTRIGGER_TESTS_SUPPORT_BATCHES_H_

#include <outrigger/batch.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/engines.h"

namespace outrigger::testing {

/// All that a caller sees of one text but its times.
struct SeenText {
  StatusCode code = StatusCode::kOk;
  std::string message;
  std::vector<Token> tokens;
  std::string text;
  StopReason reason = StopReason::kLength;
  std::vector<std::pair<Token, std::string>> calls;

  bool operator==(const SeenText&) const = default;
};

inline void add_outcome(const Result<GenerateResult>& result, SeenText* seen) {
  seen->code = result.status().code();
  seen->message = result.status().message();
  if (!result.is_ok()) return;
  seen->tokens = result.value().tokens;
  seen->text = result.value().text;
  seen->reason = result.value().stop_reason;
}

/// `options` as they are, their calls noted as well.
inline GenerateOptions noting(const GenerateOptions& options, std::vector<std::pair<Token, std::string>>* calls) {
  GenerateOptions noted = options;
  noted.on_token = [calls, before = options.on_token](const GeneratedToken& made) {
    calls->emplace_back(made.token, made.text);
    return !before || before(made);
  };
  return noted;
}

/// What Session::generate() makes of each, one after the other and without a draft.
inline std::vector<SeenText> one_by_one(const Engine& engine, const std::vector<BatchRequest>& requests,
                                        const SessionOptions& options = {}) {
  std::vector<SeenText> all;
  Session session = must(Session::open(engine, options));
  for (const BatchRequest& request : requests) {
    SeenText seen;
    GenerateOptions generate = noting(request.options, &seen.calls);
    generate.draft = {};
    must(session.truncate(0));
    add_outcome(session.generate(request.prompt, generate), &seen);
    all.push_back(std::move(seen));
  }
  return all;
}

/// The same in a batch. `report` may be null.
inline std::vector<SeenText> together(const Engine& engine, std::vector<BatchRequest> requests, const BatchOptions& options = {},
                                      BatchReport* report = nullptr) {
  std::vector<SeenText> all(requests.size());
  for (size_t i = 0; i < requests.size(); ++i) requests[i].options = noting(requests[i].options, &all[i].calls);
  const BatchResult result = must(generate_batch(engine, requests, options));
  REQUIRE(result.results.size() == requests.size());
  for (size_t i = 0; i < requests.size(); ++i) add_outcome(result.results[i], &all[i]);
  if (report != nullptr) *report = result.report;
  return all;
}

/// Requests that differ in all that a batch could mix up: prompts of 1 to 40 tokens, of 1 to 23 tokens to generate, every other one drawn.
inline std::vector<BatchRequest> mixed_requests(size_t count, uint32_t seed = 1) {
  std::vector<BatchRequest> requests(count);
  uint32_t state = seed;
  const auto below = [&state](uint32_t end) { return (state = state * 1664525u + 1013904223u) / 65536 % end; };
  for (size_t i = 0; i < count; ++i) {
    BatchRequest& request = requests[i];
    request.prompt.resize(1 + below(i % 3 == 0 ? 8 : 40));
    for (Token& token : request.prompt) token = static_cast<Token>(5 + below(90));
    request.options.max_tokens = 1 + below(23);
    request.options.ignore_eos = true;
    if (i % 2 == 1) request.options.sampling = {.temperature = 1.2f, .top_k = 30, .repeat_penalty = 1.1f, .seed = 100 + i};
  }
  return requests;
}

}  // namespace outrigger::testing

#endif  // OUTRIGGER_TESTS_SUPPORT_BATCHES_H_
