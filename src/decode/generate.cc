// Generation: prefill, then sample and step until something says stop.
#include <outrigger/session.h>

#include <chrono>
#include <new>
#include <optional>

#include "src/base/macros.h"
#include "src/decode/session_impl.h"
#include "src/decode/stop_text.h"

namespace outrigger {
namespace {

using Clock = std::chrono::steady_clock;

double ms_between(Clock::time_point from, Clock::time_point to) { return std::chrono::duration<double, std::milli>(to - from).count(); }

double per_second(double count, double ms) { return ms > 0 ? count * 1000 / ms : 0; }

// Text of the stream so far, behind the stop texts. A model without a usable tokenizer gives tokens only.
class TextOutput {
 public:
  TextOutput(const Model& model, const GenerateOptions& options) : options_(options), stop_(options.stop) {
    if (Result<Tokenizer> tokenizer = model.tokenizer(); tokenizer.is_ok()) stream_.emplace(std::move(tokenizer).value());
  }

  /// Hands the token and its text to the caller. False: the caller wants no more.
  Result<bool> push(Token token) {
    std::string shown;
    if (stream_) {
      OTR_ASSIGN(const std::string piece, stream_->push(token));
      shown = stop_.push(piece);
    }
    return deliver(token, shown);
  }
  bool stopped() const { return stop_.stopped(); }
  /// The tail that was held back, delivered with token -1.
  void finish() {
    if (!stream_ || stop_.stopped()) return;
    std::string tail = stop_.push(stream_->finish());
    tail += stop_.finish();
    if (!tail.empty()) deliver(-1, tail);
  }
  std::string take_text() { return std::move(text_); }

 private:
  bool deliver(Token token, const std::string& shown) {
    text_ += shown;
    return !options_.on_token || options_.on_token({token, shown});
  }

  const GenerateOptions& options_;
  StopText stop_;
  std::optional<TextStream> stream_;
  std::string text_;
};

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

Status GenerateOptions::validate() const { return sampling.validate(); }

Result<GenerateResult> Session::generate(std::span<const Token> prompt, const GenerateOptions& options) try {
  SessionCall call(*impl_);
  OTR_TRY(call.status());
  OTR_TRY(options.validate());
  OTR_ASSIGN(Sampler sampler, Sampler::create(options.sampling));
  const Model& model = impl_->engine->model;
  const Result<Tokenizer> tokenizer = model.tokenizer();

  GenerateResult result;
  const Clock::time_point start = Clock::now();
  Status prefilled = impl_->extend(prompt, options.prefill_progress, options.cancel, {});
  const Clock::time_point prefill_end = Clock::now();
  result.timings.prefill_ms = ms_between(start, prefill_end);
  result.timings.prefill_tokens_per_s = per_second(static_cast<double>(prompt.size()), result.timings.prefill_ms);
  if (prefilled.code() == StatusCode::kCancelled) {
    result.stop_reason = StopReason::kCancelled;
    return result;
  }
  OTR_TRY(std::move(prefilled));

  TextOutput output(model, options);
  Clock::time_point first_token = prefill_end, last_token = prefill_end;
  result.tokens.reserve(options.max_tokens < impl_->context_tokens ? options.max_tokens : impl_->context_tokens);
  while (result.tokens.size() < options.max_tokens && impl_->tokens.size() < impl_->context_tokens) {
    if (impl_->computed < impl_->tokens.size()) {
      Status stepped = impl_->compute({}, options.cancel, {});
      if (stepped.code() == StatusCode::kCancelled) {
        result.stop_reason = StopReason::kCancelled;
        break;
      }
      OTR_TRY(std::move(stepped));
    }
    OTR_ASSIGN(const Token token, sampler.sample(impl_->logits, impl_->tokens));
    const Clock::time_point now = Clock::now();
    if (result.tokens.empty()) {
      first_token = now;
      result.timings.time_to_first_token_ms = ms_between(start, first_token);
    }
    if (!options.ignore_eos && tokenizer.is_ok() && tokenizer.value().ends_generation(token)) {
      result.stop_reason = StopReason::kEos;
      break;
    }
    last_token = now;
    impl_->tokens.push_back(token);
    impl_->has_logits = false;
    result.tokens.push_back(token);
    OTR_ASSIGN(const bool go_on, output.push(token));
    if (output.stopped()) {
      result.stop_reason = StopReason::kStop;
      break;
    }
    if (!go_on || options.cancel.is_cancelled()) {
      result.stop_reason = StopReason::kCancelled;
      break;
    }
  }
  output.finish();
  result.text = output.take_text();
  if (result.tokens.size() > 1) {
    result.timings.decode_ms = ms_between(first_token, last_token);
    result.timings.decode_tokens_per_s = per_second(static_cast<double>(result.tokens.size() - 1), result.timings.decode_ms);
  }
  return result;
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

}  // namespace outrigger
