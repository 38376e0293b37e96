// What a caller sees of a generation, for tests that compare drafts with plain decoding.
#ifndef OUTRIGGER_TESTS_DECODE_SEEN_H_
#define OUTRIGGER_TESTS_DECODE_SEEN_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "src/decode/generation.h"
#include "tests/support/engines.h"

namespace outrigger::testing {

inline Model tiny(const char* name = "smollm") { return must(Model::open(tiny_model_path(name))); }

inline const std::vector<Token> kPrompt = {5, 60, 33, 7, 60, 33, 9, 41};

/// All that a caller sees of a generation but its times.
struct Seen {
  std::vector<Token> tokens, session;
  std::string text;
  StopReason reason = StopReason::kLength;
  std::vector<std::pair<Token, std::string>> calls;
  std::vector<float> logits;
  std::vector<Token> goes_on;  // what comes of it afterwards
  uint64_t accepted = 0;

  bool operator==(const Seen& other) const {
    return tokens == other.tokens && session == other.session && text == other.text && reason == other.reason && calls == other.calls &&
           logits == other.logits && goes_on == other.goes_on;
  }
};

inline Seen seen_of(Session& session, const GenerateResult& result, std::vector<std::pair<Token, std::string>> calls) {
  Seen seen{result.tokens,    {session.tokens().begin(), session.tokens().end()}, result.text, result.stop_reason,
            std::move(calls), {session.logits().begin(), session.logits().end()}};
  seen.accepted = result.speculation.accepted;
  must(session.restore(must(session.save())));
  if (session.tokens().size() + 6 > session.context_tokens()) must(session.truncate(session.context_tokens() - 6));
  GenerateOptions further;
  further.max_tokens = 5;
  further.ignore_eos = true;
  seen.goes_on = must(session.generate(std::vector<Token>{8}, further)).tokens;
  return seen;
}

using Calls = std::vector<std::pair<Token, std::string>>;

/// The same, which also writes down what its callback is given. `calls` must outlive it.
inline GenerateOptions recording(GenerateOptions options, Calls* calls) {
  options.on_token = [calls, before = options.on_token](const GeneratedToken& made) {
    calls->emplace_back(made.token, made.text);
    return !before || before(made);
  };
  return options;
}

inline Seen generated(const Engine& engine, GenerateOptions options, uint32_t context = 0) {
  Session session = must(Session::open(engine, {context}));
  Calls calls;
  options = recording(std::move(options), &calls);
  const GenerateResult result = must(session.generate(kPrompt, options));
  return seen_of(session, result, std::move(calls));
}

/// With another source of drafts.
inline Seen scripted(const Engine& engine, GenerateOptions options, std::unique_ptr<DraftSource> source, uint32_t context = 0) {
  Session session = must(Session::open(engine, {context}));
  Calls calls;
  options = recording(std::move(options), &calls);
  SpeculativeDecoder decoder = must(SpeculativeDecoder::with_source(session.impl(), options, std::move(source)));
  const GenerateResult result = must(generate_with(std::move(decoder), session.impl(), kPrompt, options));
  return seen_of(session, result, std::move(calls));
}

inline GenerateOptions plain_options(uint32_t tokens = 40) {
  GenerateOptions options;
  options.max_tokens = tokens;
  options.ignore_eos = true;
  return options;
}

inline std::vector<Token> whole_text(const Engine& engine, const GenerateOptions& options, uint32_t context = 0) {
  std::vector<Token> text = kPrompt;
  GenerateOptions longer = options;
  longer.ignore_eos = true;
  longer.stop.clear();
  longer.on_token = {};
  longer.max_tokens += 20;
  const Seen seen = generated(engine, longer, context);
  text.insert(text.end(), seen.tokens.begin(), seen.tokens.end());
  return text;
}

}  // namespace outrigger::testing

#endif  // OUTRIGGER_TESTS_DECODE_SEEN_H_
