// SpeculativeDecoder: what comes next in a session, by plain steps or by steps that verify drafts.
#ifndef OUTRIGGER_SRC_DECODE_SPECULATIVE_DECODER_H_
#define OUTRIGGER_SRC_DECODE_SPECULATIVE_DECODER_H_

#include <outrigger/session.h>

#include <atomic>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "src/decode/acceptance.h"
#include "src/decode/draft_choice.h"
#include "src/decode/draft_source.h"
#include "src/decode/draft_thread.h"
#include "src/decode/ngram_draft.h"
#include "src/decode/quote_choice.h"
#include "src/decode/session_impl.h"

namespace outrigger {

/// The next tokens of a generation.
struct NextTokens {
  std::vector<Token> tokens;  ///< one at least, unless `failure` says why there is none
  uint32_t in_cache = 0;      ///< of these, the first, whose keys and values are in the cache behind the session's own tokens
  Status failure;             ///< what follows `tokens` could not be drawn
};

/// One generation's. Tokens are those of the sampler after the model's own logits (GenerateOptions::draft says in which sense); the
/// session's tokens stay as they are, for the caller to append those that it takes.
/// @source Miao et al. 2023 (arXiv 2305.09781): one step over a tree of drafts
class SpeculativeDecoder {
 public:
  /// Chooses the draft of `options`, and opens a draft model where the session has not got it yet. The session must outlive this.
  /// Errors: those of Session::prepare_draft().
  static Result<SpeculativeDecoder> create(Session::Impl& session, const GenerateOptions& options);

  /// The same with a draft model of several sessions, whose `source` is this one's. Errors: those of Session::Impl::check_draft().
  static Result<SpeculativeDecoder> with_model(Session::Impl& session, const GenerateOptions& options, std::unique_ptr<DraftSource> source);

  /// With another source of drafts, or with none. Precondition: the plan has room for a draft's logits.
  static Result<SpeculativeDecoder> with_source(Session::Impl& session, const GenerateOptions& options,
                                                std::unique_ptr<DraftSource> source);

  /// Computes what of the session's tokens is not, and says what follows: 1 to `most` tokens, no more behind one that ends_generation().
  /// If the last of them ends it, the session's logits are those that it was drawn from, as after a plain step.
  /// Errors: as Session::step(); nothing has changed then but what is computed.
  Status next(uint32_t most, const CancelToken& cancel, NextTokens* next);

  /// next() in parts, for who runs a step of several sessions; of chains only. begin() drafts up to `most` - 1 tokens. The step computes
  /// what of the session's tokens is not, with drafted() behind them, and wants the logits of the last token and of those; each row goes to
  /// judge(), in order, `base` being how many tokens the session has without the draft. Then end(), once the session is without it again,
  /// with what the step took and what it took before begin() to make a draft for several sessions, and with the errors of next(). Nothing
  /// after a step that failed.
  void begin(uint32_t most, const CancelToken& cancel, NextTokens* next);
  std::span<const Token> drafted() const { return draft_ ? draft_->tokens() : std::span<const Token>(); }
  void judge(size_t row, std::span<const float> logits, size_t base, NextTokens* next) {
    if (!done_) judge_row(logits, std::span<const Token>(session_->tokens).first(base + row), next);
  }
  Status end(double shared_draft_ms, double verify_ms, NextTokens* next);

  /// Whether the token ends what is generated.
  bool ends_generation(Token token) const { return ends_ && ends_->ends_generation(token); }
  SpeculationReport report() const;

 private:
  SpeculativeDecoder(Session::Impl& session, Sampler sampler, uint64_t seed)
      : session_(&session), sampler_(std::move(sampler)), acceptance_(seed ^ 0xbb67ae8584caa73bu) {}

  /// Copies from the text, beside a source whose drafts take time.
  struct Quotes {
    NgramDraft ngrams;
    QuoteChoice choice;
  };

  /// What drafts while a step verifies.
  struct Ahead {
    std::atomic<bool> is_enough = false;
    Status status;
    DraftThread thread;  ///< last, so that what it works on is there till it is done
  };

  void quote_too();
  DraftSize next_size(uint32_t most_tokens);
  void make_draft(const DraftSize& size, const CancelToken& cancel);
  uint32_t tokens_ahead(uint32_t most);
  bool begin_ahead(uint32_t most);
  void end_ahead();
  Status verify(const CancelToken& cancel, NextTokens* next);
  void judge_row(std::span<const float> logits, std::span<const Token> history, NextTokens* next);
  void count(const PassRecord& pass, size_t tokens);
  void settle(const Status& why);

  Session::Impl* session_;
  Sampler sampler_;
  Acceptance acceptance_;
  std::optional<Tokenizer> ends_;        ///< none: every token goes on
  std::unique_ptr<DraftSource> source_;  ///< null: plain steps
  std::optional<DraftChoice> choice_;
  std::optional<Quotes> quotes_;
  bool is_quoting_ = false;   ///< the draft is no one of source_'s
  std::optional<Draft> draft_;
  bool has_drafted_ = false;  ///< in the pass before
  size_t node_ = 0;           ///< of the draft, the last one that was accepted
  bool done_ = false;         ///< the rows of a step that are left say nothing more
  bool is_first_ = true;      ///< no token was said yet: what is computed for the first one is the prompt
  PassRecord pass_;           ///< the one that begin() began
  SpeculationReport report_;
  uint64_t pass_tokens_ = 0;
  double drafted_token_ms_ = 0, verified_ms_ = 0;  ///< what a token of a draft took, and the last step that verified one
  bool went_ahead_ = false;                        ///< beside that step
  std::unique_ptr<Ahead> ahead_;                   ///< from the first time on; last, since it works with the source
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DECODE_SPECULATIVE_DECODER_H_
