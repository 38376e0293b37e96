// Generation: prefill, then sample and step until something says stop.
#include <outrigger/session.h>

#include <algorithm>
#include <chrono>
#include <new>
#include <optional>

#include "src/base/macros.h"
#include "src/decode/generation.h"
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

Status GenerateOptions::validate() const {
  OTR_TRY(sampling.validate());
  return draft.validate();
}

namespace {

// One generation: what it has made so far, and when.
class Generation {
 public:
  Generation(Session::Impl& session, const GenerateOptions& options, SpeculativeDecoder decoder)
      : session_(session), options_(options), decoder_(std::move(decoder)), output_(session.engine->model, options) {}

  Result<GenerateResult> run(std::span<const Token> prompt) {
    const Clock::time_point start = Clock::now();
    Status prefilled = session_.extend(prompt, options_.prefill_progress, options_.cancel, {});
    first_token_ = last_token_ = Clock::now();
    result_.timings.prefill_ms = ms_between(start, first_token_);
    result_.timings.prefill_tokens_per_s = per_second(static_cast<double>(prompt.size()), result_.timings.prefill_ms);
    if (prefilled.code() == StatusCode::kCancelled) {
      result_.stop_reason = StopReason::kCancelled;
      return std::move(result_);
    }
    OTR_TRY(std::move(prefilled));
    OTR_TRY(decode(start));
    output_.finish();
    result_.text = output_.take_text();
    if (result_.tokens.size() > 1) {
      result_.timings.decode_ms = ms_between(first_token_, last_token_);
      result_.timings.decode_tokens_per_s = per_second(static_cast<double>(result_.tokens.size() - 1), result_.timings.decode_ms);
    }
    result_.speculation = decoder_.report();
    return std::move(result_);
  }

 private:
  Status decode(Clock::time_point start) {
    result_.tokens.reserve(std::min(options_.max_tokens, session_.context_tokens));
    NextTokens next;
    next.tokens.reserve(kMostDraftTokens + 1);
    while (result_.tokens.size() < options_.max_tokens && session_.tokens.size() < session_.context_tokens) {
      const auto most = static_cast<uint32_t>(std::min<size_t>(options_.max_tokens - result_.tokens.size(), session_.context_tokens - session_.tokens.size()));
      Status status = decoder_.next(most, options_.cancel, &next);
      if (status.code() == StatusCode::kCancelled) {
        result_.stop_reason = StopReason::kCancelled;
        return {};
      }
      OTR_TRY(std::move(status));
      if (result_.tokens.empty()) result_.timings.time_to_first_token_ms = ms_between(start, first_token_ = Clock::now());
      OTR_ASSIGN(const bool go_on, take(next));
      if (!go_on) return {};
      OTR_TRY(std::move(next.failure));
    }
    return {};
  }

  // Appends the tokens one after the other, as if each had been computed alone; false when one of them ends it. Of those in the cache all are computed then
  // but the last one, or but none where what ends it is not appended.
  Result<bool> take(const NextTokens& next) {
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

  Session::Impl& session_;
  const GenerateOptions& options_;
  SpeculativeDecoder decoder_;
  TextOutput output_;
  GenerateResult result_;
  Clock::time_point first_token_, last_token_;
};

}  // namespace

Result<GenerateResult> generate_with(SpeculativeDecoder decoder, Session::Impl& session, std::span<const Token> prompt, const GenerateOptions& options) {
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
