// TextOutput: a generation's text as it comes, up to the first stop text.
#ifndef OUTRIGGER_SRC_DECODE_TEXT_OUTPUT_H_
#define OUTRIGGER_SRC_DECODE_TEXT_OUTPUT_H_

#include <outrigger/session.h>

#include <optional>
#include <string>
#include <utility>

#include "src/base/macros.h"
#include "src/decode/stop_text.h"

namespace outrigger {

/// Text of the stream so far, behind the stop texts. A model without a usable tokenizer gives tokens only.
class TextOutput {
 public:
  /// `options` must outlive this.
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

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DECODE_TEXT_OUTPUT_H_
