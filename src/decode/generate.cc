// Generation: prefill, then sample and step until something says stop.
#include "src/decode/generation.h"

#include <algorithm>
#include <new>
#include <utility>

#include "src/base/macros.h"
#include "src/decode/session_impl.h"

namespace outrigger {
namespace {

double ms_between(Generation::Clock::time_point from, Generation::Clock::time_point to) {
  return std::chrono::duration<double, std::milli>(to - from).count();
}

double per_second(double count, double ms) { return ms > 0 ? count * 1000 / ms : 0; }

}  // namespace

const char* stop_reason_name(StopReason reason) noexcept {
  switch (reason) {
    case StopReason::kLength: return "length";
    case StopReason::kEos: return "eos";
    case StopReason::kStop: return "stop";
    case StopReason::kCancelled: return "cancelled";
  }
  return "unknown";
}

Status GenerateOptions::validate() const {
  OTR_TRY(sampling.validate());
  return draft.validate();
}

Generation::Generation(Session::Impl& session, const GenerateOptions& options, SpeculativeDecoder decoder)
    : session_(session), options_(options), decoder_(std::move(decoder)), output_(session.engine->model, options) {}

Result<GenerateResult> Generation::run(std::span<const Token> prompt) {
  start();
  Status prefilled = session_.extend(prompt, options_.prefill_progress, options_.cancel, {});
  if (prefilled.code() == StatusCode::kCancelled) {
    stop(StopReason::kCancelled);
    return finish();
  }
  OTR_TRY(std::move(prefilled));
  end_prompt(prompt.size());
  OTR_TRY(decode());
  return finish();
}

void Generation::start() {
  start_ = first_token_ = last_token_ = Clock::now();
  if (session_.follower) branches_before_ = session_.follower->counts();
  result_.tokens.reserve(std::min(options_.max_tokens, session_.context_tokens));
}

void Generation::end_prompt(size_t prompt_tokens) {
  has_prompt_ = true;
  first_token_ = last_token_ = Clock::now();
  result_.timings.prefill_ms = ms_between(start_, first_token_);
  result_.timings.prefill_tokens_per_s = per_second(static_cast<double>(prompt_tokens), result_.timings.prefill_ms);
}

uint32_t Generation::most_wanted() const {
  if (result_.tokens.size() >= options_.max_tokens || session_.tokens.size() >= session_.context_tokens) return 0;
  return static_cast<uint32_t>(
      std::min<size_t>(options_.max_tokens - result_.tokens.size(), session_.context_tokens - session_.tokens.size()));
}

Status Generation::decode() {
  NextTokens next;
  next.tokens.reserve(kMostDraftTokens + 1);
  while (most_wanted() > 0) {
    Status status = decoder_.next(most_wanted(), options_.cancel, &next);
    if (status.code() == StatusCode::kCancelled) {
      stop(StopReason::kCancelled);
      return {};
    }
    OTR_TRY(std::move(status));
    OTR_ASSIGN(const bool go_on, take(next));
    if (!go_on) return {};
    OTR_TRY(std::move(next.failure));
  }
  return {};
}

// Appends the tokens one after the other, as if each had been computed alone; false when one of them ends it. Of those in the cache all are
// computed then but the last one, or but none where what ends it is not appended.
Result<bool> Generation::take(const NextTokens& next) {
  if (result_.tokens.empty()) result_.timings.time_to_first_token_ms = ms_between(start_, first_token_ = Clock::now());
  const size_t base = session_.tokens.size();
  for (const Token token : next.tokens) {
    if (decoder_.ends_generation(token)) {
      result_.stop_reason = StopReason::kEos;
      session_.computed = static_cast<uint32_t>(session_.tokens.size());
      session_.has_logits = true;
      return false;
    }
    last_token_ = Clock::now();
    session_.tokens.push_back(token);
    session_.has_logits = false;
    session_.computed = static_cast<uint32_t>(session_.tokens.size() - 1);
    result_.tokens.push_back(token);
    OTR_ASSIGN(const bool go_on, output_.push(token));
    if (output_.stopped()) {
      result_.stop_reason = StopReason::kStop;
      return false;
    }
    if (!go_on || options_.cancel.is_cancelled()) {
      result_.stop_reason = StopReason::kCancelled;
      return false;
    }
  }
  session_.computed = static_cast<uint32_t>(base + next.in_cache);
  return true;
}

GenerateResult Generation::finish() {
  if (!has_prompt_) {
    result_.timings.prefill_ms = ms_between(start_, Clock::now());
    return std::move(result_);
  }
  output_.finish();
  result_.text = output_.take_text();
  if (result_.tokens.size() > 1) {
    result_.timings.decode_ms = ms_between(first_token_, last_token_);
    result_.timings.decode_tokens_per_s = per_second(static_cast<double>(result_.tokens.size() - 1), result_.timings.decode_ms);
  }
  result_.speculation = decoder_.report();
  if (session_.follower) result_.branches = (session_.follower->counts() - branches_before_).use();
  return std::move(result_);
}

Result<GenerateResult> generate_with(SpeculativeDecoder decoder, Session::Impl& session, std::span<const Token> prompt,
                                     const GenerateOptions& options) {
  return Generation(session, options, std::move(decoder)).run(prompt);
}

Result<GenerateResult> Session::generate(std::span<const Token> prompt, const GenerateOptions& options) try {
  SessionCall call(*impl_);
  OTR_TRY(call.status());
  OTR_TRY(options.validate());
  Result<SpeculativeDecoder> decoder = SpeculativeDecoder::create(*impl_, options);
  if (decoder.status().code() == StatusCode::kCancelled) {
    GenerateResult result;
    result.stop_reason = StopReason::kCancelled;
    return result;
  }
  OTR_TRY(decoder.status());
  return generate_with(std::move(decoder).value(), *impl_, prompt, options);
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

}  // namespace outrigger
