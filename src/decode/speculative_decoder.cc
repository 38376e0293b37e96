// What comes next in a session: a draft, one step that verifies it, and what the model takes of it.
#include "src/decode/speculative_decoder.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <new>

#include "src/base/logging.h"
#include "src/base/macros.h"
#include "src/decode/draft_model.h"
#include "src/decode/ngram_draft.h"
#include "src/decode/self_draft.h"

namespace outrigger {
namespace {

using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point start) { return std::chrono::duration<double, std::milli>(Clock::now() - start).count(); }

// What is drawn after n-grams is what is drawn without a draft; after another draft it is not.
DraftKind kind_for(const Session::Impl& session, const GenerateOptions& options) {
  if (options.draft.kind != DraftKind::kAuto) return options.draft.kind;
  if (session.engine->plan.logit_rows < 2) return DraftKind::kNone;
  return session.engine->plan.self_draft_bits > 0 && options.sampling.temperature <= 0 ? DraftKind::kSelf : DraftKind::kNgram;
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
  return decoder;
}

Result<SpeculativeDecoder> SpeculativeDecoder::with_source(Session::Impl& session, const GenerateOptions& options,
                                                           std::unique_ptr<DraftSource> source) {
  OTR_ASSIGN(Sampler sampler, Sampler::create(options.sampling));
  SpeculativeDecoder decoder(session, std::move(sampler), options.sampling.seed);
  if (Result<Tokenizer> tokenizer = session.engine->model.tokenizer(); tokenizer.is_ok() && !options.ignore_eos)
    decoder.ends_.emplace(std::move(tokenizer).value());
  if (source == nullptr) return decoder;
  const bool is_fixed = options.draft.tokens != DraftOptions::kAsItPays;
  const uint32_t most = std::min(is_fixed ? options.draft.tokens : kMostDraftTokens, session.engine->plan.logit_rows - 1);
  decoder.length_.emplace(most, is_fixed, !is_fixed || options.draft.kind == DraftKind::kAuto);
  decoder.draft_.emplace(most, options.sampling.temperature > 0 && !source->is_certain() ? kMostDraftCandidates : 0);
  decoder.source_ = std::move(source);
  return decoder;
}

// The draft and the token behind it are all to be wanted, and the step of all of them is to fit.
uint32_t SpeculativeDecoder::most_drafted(uint32_t most_tokens) const {
  const Plan& plan = session_->engine->plan;  // another one after a replan
  const uint32_t most = std::min({most_tokens, plan.logit_rows, plan.step_tokens}) - 1;
  const bool is_plain = source_ == nullptr || session_->tokens.size() - session_->computed != 1;
  return is_plain ? 0 : most;
}

// What fails in a draft is never the generation's failure, and cancelling is noticed by the step that follows.
void SpeculativeDecoder::settle(const Status& why) {
  if (why.is_ok() || why.code() == StatusCode::kCancelled) return;
  log_message(LogLevel::kWarning,
              fmt::format("the draft ({}) failed and is given up, generation goes on without it: {}", report_.draft_name, why.to_string()));
  source_.reset();
}

// Fills draft_, or leaves it empty.
void SpeculativeDecoder::make_draft(uint32_t most, const CancelToken& cancel) {
  if (draft_) draft_->clear();
  if (most == 0 || source_ == nullptr) return;
  const Status status = source_->propose(session_->tokens, most, cancel, &*draft_);
  if (!status.is_ok()) draft_->clear();
  settle(status);
}

void SpeculativeDecoder::judge_row(size_t row, std::span<const float> logits, size_t base, NextTokens* next) {
  const std::span<const Token> history = std::span<const Token>(session_->tokens).first(base + row);
  const std::span<const Token> drafted = draft_ ? draft_->tokens() : std::span<const Token>();
  const bool is_drawn = draft_ && draft_->is_drawn();
  Result<Verdict> verdict = row == drafted.size() ? Acceptance::judge(sampler_, logits, history, -1)
                            : is_drawn ? acceptance_.judge_drawn(sampler_, logits, history, drafted[row], draft_->distribution(row))
                                       : Acceptance::judge(sampler_, logits, history, drafted[row]);
  if (!verdict.is_ok()) {
    next->failure = verdict.status();
    done_ = true;
    return;
  }
  next->tokens.push_back(verdict.value().token);
  if (verdict.value().is_accepted) ++next->in_cache;
  done_ = !verdict.value().is_accepted || ends_generation(verdict.value().token);
}

// One step over the last token and the draft. The session's tokens hold the draft meanwhile.
Status SpeculativeDecoder::verify(const CancelToken& cancel, NextTokens* next) {
  Session::Impl& session = *session_;
  const size_t base = session.tokens.size();
  session.tokens.insert(session.tokens.end(), draft_->tokens().begin(), draft_->tokens().end());
  session.has_logits = false;
  const auto on_row = [&](size_t row, std::span<const float> logits) {
    if (done_) return;
    judge_row(row, logits, base, next);
    if (next->tokens.size() == row + 1 && ends_generation(next->tokens.back()))
      std::copy(logits.begin(), logits.end(), session.logits.begin());
  };
  const Status status = session.compute_rows(cancel, std::cref(on_row));
  session.tokens.resize(base);
  if (status.is_ok()) session.computed = static_cast<uint32_t>(base);
  return status;
}

void SpeculativeDecoder::count(const PassRecord& pass, size_t tokens) {
  if (!length_) return;
  if (source_ != nullptr) length_->record(pass);
  ++report_.passes;
  report_.drafted += pass.drafted;
  report_.accepted += pass.accepted;
  for (uint32_t i = 0; i < pass.drafted; ++i) ++report_.drafted_at[i];
  for (uint32_t i = 0; i < pass.accepted; ++i) ++report_.accepted_at[i];
  pass_tokens_ += tokens;
}

SpeculationReport SpeculativeDecoder::report() const {
  SpeculationReport report = report_;
  if (report.passes > 0) report.tokens_per_pass = static_cast<double>(pass_tokens_) / static_cast<double>(report.passes);
  report.auto_off = length_ && length_->has_given_up();
  return report;
}

Status SpeculativeDecoder::next(uint32_t most, const CancelToken& cancel, NextTokens* next) {
  Session::Impl& session = *session_;
  next->tokens.clear();
  next->in_cache = 0;
  next->failure = {};
  done_ = false;
  const bool is_pass = session.computed < session.tokens.size();
  PassRecord pass;
  const uint32_t room = most_drafted(most);
  if (room > 0) pass.asked = std::min(length_->next(), room);
  if (pass.asked > 0 && !has_drafted_) settle(source_->read(session.tokens, cancel));
  const Clock::time_point start = Clock::now();
  make_draft(pass.asked, cancel);
  pass.draft_ms = ms_since(start);
  has_drafted_ = pass.asked > 0;
  pass.drafted = draft_ ? static_cast<uint32_t>(draft_->tokens().size()) : 0;
  const Clock::time_point verifying = Clock::now();
  if (pass.drafted > 0) {
    OTR_TRY(verify(cancel, next));
  } else {
    if (is_pass) OTR_TRY(session.compute({}, cancel, {}));
    judge_row(0, session.logits, session.tokens.size(), next);
  }
  pass.verify_ms = ms_since(verifying);
  pass.accepted = next->in_cache;
  if (is_pass) count(pass, next->tokens.size());
  return next->tokens.empty() ? next->failure : Status();
}

}  // namespace outrigger
