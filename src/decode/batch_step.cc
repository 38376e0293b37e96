// One step over tokens of several sessions, and Session::step() of several at once.
#include "src/decode/batch_step.h"

#include <outrigger/batch.h>

#include <algorithm>
#include <new>

#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/decode/load_follower.h"

namespace outrigger {

BatchStep::BatchStep(Engine::Impl& engine, size_t most_sessions, float branch_share) : engine_(engine), branch_share_(branch_share) {
  tokens_.reserve(engine.plan.step_tokens);
  slices_.reserve(most_sessions);
  sessions_.reserve(most_sessions);
  logit_tokens_.reserve(engine.plan.logit_rows);
  rows_.reserve(engine.plan.logit_rows);
}

void BatchStep::clear() {
  tokens_.clear();
  slices_.clear();
  sessions_.clear();
  logit_tokens_.clear();
  rows_.clear();
}

void BatchStep::add(Session::Impl& session, uint32_t count, uint32_t rows) {
  const auto first = static_cast<uint32_t>(tokens_.size());
  const std::span<const Token> more = std::span<const Token>(session.tokens).subspan(session.computed, count);
  tokens_.insert(tokens_.end(), more.begin(), more.end());
  slices_.push_back({&session.cache, session.computed, first, count});
  for (uint32_t row = 0; row < rows; ++row) {
    logit_tokens_.push_back(first + count - rows + row);
    rows_.push_back({sessions_.size(), row});
  }
  sessions_.push_back(&session);
}

Status BatchStep::run(const CancelToken& cancel, const OnRow& on_row) {
  const StepInput input{tokens_, slices_, logit_tokens_, branch_share_};
  OTR_TRY(engine_.run_step(input, cancel, [&](size_t i, std::span<const float> logits) {
    step_ms_ = engine_.step_ms;
    on_row(rows_[i].index, rows_[i].row, logits);
  }));
  for (size_t i = 0; i < sessions_.size(); ++i) sessions_[i]->computed += slices_[i].tokens;
  return {};
}

namespace {

// All of them, or none.
class SessionCalls {
 public:
  explicit SessionCalls(std::span<Session* const> sessions) : sessions_(sessions) {
    while (held_ < sessions.size() && !sessions[held_]->impl().busy.exchange(true, std::memory_order_acquire)) ++held_;
  }
  ~SessionCalls() {
    for (Session* const session : sessions_.first(held_)) session->impl().busy.store(false, std::memory_order_release);
  }
  SessionCalls(const SessionCalls&) = delete;
  SessionCalls& operator=(const SessionCalls&) = delete;

  Status status() const {
    if (held_ == sessions_.size()) return {};
    return Status(
        StatusCode::kInvalidArgument,
        formatted("session {} of {} is busy: it is given twice, or another thread is inside one of its calls", held_, sessions_.size()));
  }

 private:
  std::span<Session* const> sessions_;
  size_t held_ = 0;
};

Status check_follower(const Session::Impl& session, const Session::Impl& first, size_t index) {
  const auto slowdown = [](const Session::Impl& of) { return of.follower ? of.follower->max_slowdown() : 0; };
  if (slowdown(session) == slowdown(first)) return {};
  return Status(StatusCode::kInvalidArgument,
                formatted("session {}: follows the load with a slowdown of {}, need that of session 0, {} (0: it does not)", index,
                          slowdown(session), slowdown(first)));
}

Status check_together(std::span<Session* const> sessions, std::span<const Token> tokens) {
  const Session::Impl& first = sessions[0]->impl();
  for (size_t i = 0; i < sessions.size(); ++i) {
    const Session::Impl& session = sessions[i]->impl();
    if (session.engine != first.engine)
      return Status(StatusCode::kInvalidArgument, formatted("session {} is of another engine than session 0", i));
    OTR_TRY(check_follower(session, first, i));
    if (!session.follower && session.branch_share != first.branch_share) {
      return Status(StatusCode::kInvalidArgument, formatted("session {}: got a branch share of {}, need that of session 0, {}", i,
                                                            session.branch_share, first.branch_share));
    }
    OTR_TRY(session.check_tokens(tokens.subspan(i, 1)));
  }
  return {};
}

// As many of them as a step has room for, each with its token; how many that were. Precondition: each session is computed.
Result<size_t> step_some(BatchStep& step, std::span<Session* const> sessions, std::span<const Token> tokens, const CancelToken& cancel) {
  const Plan& plan = sessions[0]->impl().engine->plan;
  const std::span<Session* const> some = sessions.first(std::min<size_t>(sessions.size(), std::min(plan.step_tokens, plan.logit_rows)));
  step.clear();
  LoadFollower* const follower = sessions[0]->impl().follower.get();
  const auto size = static_cast<uint32_t>(some.size());
  if (follower != nullptr) step.set_branch_share(follower->next_share(size));
  for (size_t i = 0; i < some.size(); ++i) {
    some[i]->impl().tokens.push_back(tokens[i]);
    step.add(some[i]->impl(), 1, 1);
  }
  const Status status = step.run(cancel, [&](size_t i, size_t, std::span<const float> logits) {
    std::copy(logits.begin(), logits.end(), some[i]->impl().logits.begin());
  });
  if (follower != nullptr && status.is_ok()) follower->record(size, step.step_ms());
  for (Session* const session : some) {
    session->impl().has_logits = status.is_ok();
    if (!status.is_ok()) session->impl().tokens.pop_back();
  }
  return status.is_ok() ? Result<size_t>(some.size()) : Result<size_t>(status);
}

}  // namespace

Status step_together(std::span<Session* const> sessions, std::span<const Token> tokens, const CancelToken& cancel) try {
  if (sessions.size() != tokens.size() || sessions.empty()) {
    return Status(StatusCode::kInvalidArgument, formatted("step_together: got {} sessions and {} tokens, need one each, and one at least",
                                                          sessions.size(), tokens.size()));
  }
  const SessionCalls calls(sessions);
  OTR_TRY(calls.status());
  OTR_TRY(check_together(sessions, tokens));
  const Session::Impl& first = sessions[0]->impl();
  for (Session* const session : sessions) {  // the last token of what it generated, if that is not
    if (session->impl().computed < session->impl().tokens.size()) OTR_TRY(session->impl().compute({}, cancel, {}));
  }
  BatchStep step(*first.engine, sessions.size(), first.branch_share);
  for (size_t done = 0; done < sessions.size();) {
    if (cancel.is_cancelled()) return Status(StatusCode::kCancelled, "cancelled between steps");
    OTR_ASSIGN(const size_t some, step_some(step, sessions.subspan(done), tokens.subspan(done), cancel));
    done += some;
  }
  return {};
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

}  // namespace outrigger
