// What comes next in a session: a draft, one step that verifies it, and what the model takes of it.
#include "src/decode/speculative_decoder.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <functional>
#include <new>
#include <utility>

#include "src/base/formatted.h"
#include "src/base/logging.h"
#include "src/base/macros.h"
#include "src/decode/draft_model.h"
#include "src/decode/self_draft.h"

namespace outrigger {
namespace {

using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point start) { return std::chrono::duration<double, std::milli>(Clock::now() - start).count(); }

// What is drawn after n-grams is what is drawn without a draft; after another draft it is not.
DraftKind kind_for(const Session::Impl& session, const GenerateOptions& options) {
  if (options.draft.kind != DraftKind::kAuto) return options.draft.kind;
  if (session.follower) return DraftKind::kNone;
  if (session.engine->plan.logit_rows < 2) return DraftKind::kNone;
  const bool takes_copies = options.sampling.temperature <= 0 && options.draft.shape != DraftShape::kTree;
  return session.engine->plan.self_draft_bits > 0 && takes_copies ? DraftKind::kSelf : DraftKind::kNgram;
}

Result<std::unique_ptr<DraftSource>> source_of(DraftKind kind, Session::Impl& session, const SamplingOptions& target_sampling) {
  const SamplingOptions sampling = draft_sampling(target_sampling);
  OTR_ASSIGN(Sampler sampler, Sampler::create(sampling));
  std::unique_ptr<DraftSource> source;
  if (kind == DraftKind::kNgram) source = std::make_unique<NgramDraft>(session.context_tokens);
  if (kind == DraftKind::kSelf) source = std::make_unique<SelfDraft>(session, std::move(sampler), sampling);
  if (kind == DraftKind::kModel) source = std::make_unique<ModelDraft>(*session.draft_model, std::move(sampler), sampling);
  return source;
}

}  // namespace

Result<SpeculativeDecoder> SpeculativeDecoder::create(Session::Impl& session, const GenerateOptions& options) {
  OTR_TRY(session.prepare_draft(options.draft, {}, options.cancel));
  const DraftKind kind = kind_for(session, options);
  OTR_ASSIGN(std::unique_ptr<DraftSource> source, source_of(kind, session, options.sampling));
  OTR_ASSIGN(SpeculativeDecoder decoder, with_source(session, options, std::move(source)));
  decoder.report_.draft = kind;
  decoder.report_.draft_name = kind == DraftKind::kModel ? options.draft.path : draft_kind_name(kind);
  if (options.draft.kind == DraftKind::kAuto && kind == DraftKind::kSelf) decoder.quote_too();
  return decoder;
}

Result<SpeculativeDecoder> SpeculativeDecoder::with_model(Session::Impl& session, const GenerateOptions& options,
                                                          std::unique_ptr<DraftSource> source) {
  OTR_TRY(session.check_draft(options.draft));
  OTR_ASSIGN(SpeculativeDecoder decoder, with_source(session, options, std::move(source)));
  decoder.report_.draft = DraftKind::kModel;
  decoder.report_.draft_name = options.draft.path;
  return decoder;
}

// Nothing is drawn: a quote stands for itself as the copies' drafts do.
void SpeculativeDecoder::quote_too() {
  quotes_.emplace(
      Quotes{NgramDraft(session_->context_tokens), QuoteChoice(choice_->most_tokens(), planned_growth(session_->engine->plan))});
}

Result<SpeculativeDecoder> SpeculativeDecoder::with_source(Session::Impl& session, const GenerateOptions& options,
                                                           std::unique_ptr<DraftSource> source) {
  OTR_ASSIGN(Sampler sampler, Sampler::create(options.sampling));
  SpeculativeDecoder decoder(session, std::move(sampler), options.sampling.seed);
  if (Result<Tokenizer> tokenizer = session.engine->model.tokenizer(); tokenizer.is_ok() && !options.ignore_eos)
    decoder.ends_.emplace(std::move(tokenizer).value());
  if (source == nullptr) return decoder;
  const uint32_t width = source->tree_width();
  decoder.choice_.emplace(options.draft, session.engine->plan.logit_rows - 1, width, planned_growth(session.engine->plan));
  decoder.draft_.emplace(decoder.choice_->most_tokens(),
                         options.sampling.temperature > 0 && !source->is_certain() ? kMostDraftCandidates : 0);
  decoder.source_ = std::move(source);
  return decoder;
}

// A path of the draft and the token behind it are all to be wanted; the step of all of it is to fit, and so is the cache behind the text.
DraftSize SpeculativeDecoder::next_size(uint32_t most_tokens) {
  const Plan& plan = session_->engine->plan;  // another one after a replan
  const auto size = static_cast<uint32_t>(session_->tokens.size());
  const uint32_t rows = std::min({plan.logit_rows, plan.step_tokens, session_->context_tokens - size + 1}) - 1,
                 depth = std::min(most_tokens - 1, rows);
  if (depth == 0 || source_ == nullptr || size - session_->computed != 1) return {};
  const uint32_t quoted =
      quotes_ ? std::min(depth, quotes_->choice.next(quotes_->ngrams.match_length(session_->tokens), choice_->ms_per_token())) : 0;
  is_quoting_ = quoted > 0;
  if (is_quoting_) return {quoted, quoted, 1, quoted};
  const DraftSize wanted = choice_->next();
  return {std::min(wanted.tokens, wanted.is_tree() ? rows : depth), std::min(wanted.depth, depth), wanted.width,
          std::min(depth, kMostDraftTokens)};
}

// What fails in a draft is never the generation's failure, and cancelling is noticed by the step that follows.
void SpeculativeDecoder::settle(const Status& why) {
  if (why.is_ok() || why.code() == StatusCode::kCancelled) return;
  log_message(LogLevel::kWarning,
              formatted("the draft ({}) failed and is given up, generation goes on without it: {}", report_.draft_name, why.to_string()));
  source_.reset();
}

// Fills draft_, or leaves it empty.
void SpeculativeDecoder::make_draft(const DraftSize& size, const CancelToken& cancel) {
  if (draft_) draft_->clear();
  if (size.tokens == 0 || source_ == nullptr) return;
  DraftSource& source = is_quoting_ ? quotes_->ngrams : *source_;
  const Status status = size.is_tree() ? source.propose_tree(session_->tokens, size, cancel, &*draft_)
                                       : source.propose(session_->tokens, size.tokens, cancel, &*draft_);
  if (!status.is_ok()) draft_->clear();
  settle(status);
}

// As many as the last step had time for, so that nobody waits for the draft: two of its steps are for the chain's last token and the one
// behind it.
uint32_t SpeculativeDecoder::tokens_ahead(uint32_t most) {
  if (source_ == nullptr || is_quoting_ || !source_->drafts_ahead() || !draft_->is_chain()) return 0;
  // A draft that was made ahead took next to nothing, and says nothing of what its tokens take.
  const double token_ms = pass_.draft_ms / pass_.drafted;
  if (!std::exchange(went_ahead_, false) || token_ms > drafted_token_ms_ / 2) drafted_token_ms_ = token_ms;
  const double fitting = drafted_token_ms_ > 0 ? verified_ms_ / drafted_token_ms_ - 2 : 0;
  if (fitting < 1 || most <= pass_.drafted + 2) return 0;  // behind all of it and the next token there is one more at least
  return std::min({pass_.asked, most - pass_.drafted - 2, static_cast<uint32_t>(std::min<double>(fitting, kMostDraftTokens))});
}

bool SpeculativeDecoder::begin_ahead(uint32_t most) {
  const uint32_t tokens = tokens_ahead(most);
  if (tokens == 0) return false;
  if (ahead_ == nullptr) ahead_ = std::make_unique<Ahead>();
  ahead_->is_enough = false;
  const auto work = [ahead = ahead_.get(), source = source_.get(), tokens] {
    ahead->status = source->draft_ahead(tokens, [ahead] { return ahead->is_enough.load(); });
  };
  return went_ahead_ = ahead_->thread.start(work).is_ok();
}

void SpeculativeDecoder::end_ahead() {
  ahead_->is_enough = true;
  ahead_->thread.wait();
  settle(ahead_->status);
}

// What the model says at node_, behind `history`, which has the path to it.
void SpeculativeDecoder::judge_row(std::span<const float> logits, std::span<const Token> history, NextTokens* next) {
  std::array<Token, kMostTreeTokens> children;
  size_t count = 0;
  for (size_t node = node_ + 1; draft_ && node < draft_->tree().size(); ++node) {
    if (draft_->tree().parent(node) == node_) children[count++] = draft_->token(node);
  }
  const std::span<const Token> drafted = std::span(children).first(count);
  const Result<Verdict> verdict = count > 0 && draft_->is_drawn()
                                      ? acceptance_.judge_drawn(sampler_, logits, history, drafted, draft_->distribution(node_))
                                      : Acceptance::judge(sampler_, logits, history, drafted);
  if (!verdict.is_ok()) {
    next->failure = verdict.status();
    done_ = true;
    return;
  }
  next->tokens.push_back(verdict.value().token);
  if (verdict.value().is_accepted) {
    ++next->in_cache;
    node_ = find_under(draft_->tree(), draft_->tokens(), node_, verdict.value().token);
  }
  done_ = !verdict.value().is_accepted || ends_generation(verdict.value().token);
}

// One step over the last token and the draft. The session's tokens hold what of it is accepted meanwhile.
Status SpeculativeDecoder::verify(const CancelToken& cancel, NextTokens* next) {
  Session::Impl& session = *session_;
  const size_t base = session.tokens.size();
  session.has_logits = false;
  const auto on_row = [&](size_t row, std::span<const float> logits) {
    if (done_ || row != node_) return;
    judge_row(logits, session.tokens, next);
    if (!next->failure.is_ok()) return;
    if (ends_generation(next->tokens.back())) std::copy(logits.begin(), logits.end(), session.logits.begin());
    if (node_ != row) session.tokens.push_back(next->tokens.back());
  };
  const Status status = session.compute_rows(draft_->tokens(), draft_->is_chain() ? nullptr : &draft_->tree(), cancel, std::cref(on_row));
  session.tokens.resize(base);
  if (!status.is_ok()) return status;
  session.computed = static_cast<uint32_t>(base);
  return draft_->is_chain() ? Status() : session.keep_path(draft_->tree(), node_);
}

void SpeculativeDecoder::count(const PassRecord& pass, size_t tokens) {
  if (!choice_) return;
  report_.expected_accepted += is_quoting_ ? quotes_->choice.expected_accepted(pass.depth) : choice_->expected_accepted(pass.depth);
  if (source_ != nullptr && !is_quoting_) choice_->record(pass);
  if (quotes_ && !is_quoting_ && pass.drafted > 0) quotes_->choice.record_other();
  if (quotes_ && (is_quoting_ || pass.drafted == 0)) quotes_->choice.record_own(pass);
  if (is_quoting_) ++report_.quoted_passes;
  ++report_.passes;
  if (pass.drafted > pass.depth) ++report_.tree_passes;
  report_.drafted += pass.drafted;
  report_.accepted += pass.accepted;
  report_.draft_ms += pass.draft_ms;
  report_.verify_ms += pass.verify_ms;
  for (uint32_t i = 0; i < pass.depth; ++i) ++report_.drafted_at[i];
  for (uint32_t i = 0; i < pass.accepted; ++i) ++report_.accepted_at[i];
  const Draft::Trunk trunk = draft_ ? draft_->trunk(node_) : Draft::Trunk();
  for (uint32_t i = 0; i < trunk.depth; ++i) ++report_.chain_drafted_at[i];
  for (uint32_t i = 0; i < trunk.shared; ++i) ++report_.chain_accepted_at[i];
  pass_tokens_ += tokens;
}

SpeculationReport SpeculativeDecoder::report() const {
  SpeculationReport report = report_;
  if (report.passes > 0) report.tokens_per_pass = static_cast<double>(pass_tokens_) / static_cast<double>(report.passes);
  if (choice_) choice_->tell_given_up(&report);
  return report;
}

void SpeculativeDecoder::begin(uint32_t most, const CancelToken& cancel, NextTokens* next) {
  next->tokens.clear();
  next->in_cache = 0;
  next->failure = {};
  done_ = false;
  pass_ = {};
  node_ = 0;
  is_quoting_ = false;
  const DraftSize size = next_size(most);
  pass_.asked = size.depth;
  if (pass_.asked > 0 && !has_drafted_) settle(source_->read(session_->tokens, cancel));
  const Clock::time_point start = Clock::now();
  make_draft(size, cancel);
  pass_.draft_ms = ms_since(start);
  has_drafted_ = pass_.asked > 0;
  pass_.drafted = draft_ ? static_cast<uint32_t>(draft_->tokens().size()) : 0;
  pass_.depth = draft_ ? draft_->depth() : 0;
}

Status SpeculativeDecoder::end(double shared_draft_ms, double verify_ms, NextTokens* next) {
  pass_.draft_ms += shared_draft_ms;
  pass_.verify_ms = verify_ms;
  pass_.accepted = next->in_cache;
  if (!is_first_) count(pass_, next->tokens.size());
  is_first_ = false;
  return next->tokens.empty() ? next->failure : Status();
}

Status SpeculativeDecoder::next(uint32_t most, const CancelToken& cancel, NextTokens* next) {
  Session::Impl& session = *session_;
  begin(most, cancel, next);
  const Clock::time_point verifying = Clock::now();
  if (pass_.drafted > 0) {
    const bool goes_ahead = begin_ahead(most);
    Status status = verify(cancel, next);
    verified_ms_ = ms_since(verifying);
    if (goes_ahead) end_ahead();
    OTR_TRY(std::move(status));
  } else {
    if (session.computed < session.tokens.size()) OTR_TRY(session.compute({}, cancel, {}));
    judge_row(session.logits, session.tokens, next);
  }
  return end(0, ms_since(verifying), next);
}

}  // namespace outrigger
