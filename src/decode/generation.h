// Generation: a prompt and what follows it.
#ifndef OUTRIGGER_SRC_DECODE_GENERATION_H_
#define OUTRIGGER_SRC_DECODE_GENERATION_H_

#include <outrigger/session.h>

#include <chrono>
#include <cstddef>
#include <span>

#include "src/decode/load_follower.h"
#include "src/decode/speculative_decoder.h"
#include "src/decode/text_output.h"

namespace outrigger {

/// What one call of Session::generate() has made so far, and when. Session and options must outlive it.
class Generation {
 public:
  using Clock = std::chrono::steady_clock;

  Generation(Session::Impl& session, const GenerateOptions& options, SpeculativeDecoder decoder);

  /// All of it. Errors: Session::generate()'s.
  Result<GenerateResult> run(std::span<const Token> prompt);

  /// The same in parts, for who runs the steps: start(), end_prompt() once the session has computed the prompt, and while most_wanted()
  /// says that there is something to come, decoder()'s next tokens to take(); finish() after the last, whatever was the reason.
  void start();
  void end_prompt(size_t prompt_tokens);
  /// Tokens that may still come; 0: it has all.
  uint32_t most_wanted() const;
  /// Appends the tokens to the session and to the result, and hands them to the caller; false when one of them ends the generation. Errors:
  /// those of the text.
  Result<bool> take(const NextTokens& next);
  void stop(StopReason reason) { result_.stop_reason = reason; }
  GenerateResult finish();

  SpeculativeDecoder& decoder() { return decoder_; }

 private:
  Status decode();

  Session::Impl& session_;
  const GenerateOptions& options_;
  SpeculativeDecoder decoder_;
  TextOutput output_;
  GenerateResult result_;
  BranchCounts branches_before_;
  bool has_prompt_ = false;
  Clock::time_point start_, first_token_, last_token_;
};

/// Session::generate() with a decoder that was made for it. Preconditions: the session is held, the options are valid.
Result<GenerateResult> generate_with(SpeculativeDecoder decoder, Session::Impl& session, std::span<const Token> prompt,
                                     const GenerateOptions& options);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DECODE_GENERATION_H_
