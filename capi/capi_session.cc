// C API: sessions.
#include <outrigger/batch.h>

#include <deque>
#include <span>
#include <string>
#include <vector>

#include "capi/capi_hold.h"

using outrigger::Session;
using outrigger::Status;
using namespace outrigger::capi;  // NOLINT: this file is the C side of that namespace

namespace {

Status check_logits(const otr_session* session) {
  return !session->session.logits().empty()
             ? Status()
             : invalid("the session has no logits: nothing was computed since it was opened or truncated; prefill first");
}

}  // namespace

void otr_session_options_init(otr_session_options* options, uint32_t struct_size) {
  init(options, struct_size, only_size<otr_session_options>());
}

otr_status otr_session_open(const otr_engine* engine, const otr_session_options* options, otr_session** session, otr_error* error) {
  if (session != nullptr) *session = nullptr;
  return guard(error, [&]() -> Status {
    OTR_CAPI_TRY(require(engine, "engine"));
    OTR_CAPI_TRY(require(session, "session"));
    auto known = only_size<otr_session_options>();
    OTR_CAPI_TRY(read_options(options, "options", &known));
    return give_handle(Session::open(engine->engine, {known.context_tokens}), session, engine->engine);
  });
}

void otr_session_close(otr_session** session) { close(session); }

void otr_prefill_options_init(otr_prefill_options* options, uint32_t struct_size) {
  init(options, struct_size, only_size<otr_prefill_options>());
}

otr_status otr_session_prefill(otr_session* session, const int32_t* tokens, size_t count, const otr_prefill_options* options,
                               otr_error* error) {
  return with_session(session, error, [&]() -> Status {
    OTR_CAPI_TRY(require_array(tokens, count, "tokens"));
    auto known = only_size<otr_prefill_options>();
    OTR_CAPI_TRY(read_options(options, "options", &known));
    OTR_CAPI_TRY(check_reserved(known.reserved, "options"));
    return session->session.prefill(std::span(tokens, count), progress_of(known.progress, known.user), token_of(known.cancel));
  });
}

otr_status otr_session_step(otr_session* session, int32_t token, otr_error* error) {
  return with_session(session, error, [&] { return session->session.step(token); });
}

otr_status otr_session_step_together(otr_session* const* sessions, const int32_t* tokens, size_t count, const otr_cancel* cancel,
                                     otr_error* error) {
  return guard(error, [&]() -> Status {
    OTR_CAPI_TRY(require_array(sessions, count, "sessions"));
    OTR_CAPI_TRY(require_array(tokens, count, "tokens"));
    std::deque<Hold> holds;
    std::vector<Session*> together;
    for (otr_session* const session : std::span(sessions, count)) {
      OTR_CAPI_TRY(holds.emplace_back(session).take());
      together.push_back(&session->session);
    }
    return outrigger::step_together(together, std::span(tokens, count), token_of(cancel));
  });
}

void otr_evaluate_options_init(otr_evaluate_options* options, uint32_t struct_size) {
  init(options, struct_size, only_size<otr_evaluate_options>());
}

otr_status otr_session_evaluate(otr_session* session, const int32_t* tokens, size_t count, const otr_evaluate_options* options,
                                otr_error* error) {
  return with_session(session, error, [&]() -> Status {
    OTR_CAPI_TRY(require_array(tokens, count, "tokens"));
    OTR_CAPI_TRY(require(options, "options"));
    auto known = only_size<otr_evaluate_options>();
    OTR_CAPI_TRY(read_options(options, "options", &known));
    OTR_CAPI_TRY(check_reserved(known.reserved, "options"));
    if (known.on_logits == nullptr) return invalid("options.on_logits is NULL; it is what evaluation is for");
    const auto forward = [&](size_t index, std::span<const float> logits) {
      known.on_logits(known.user, index, logits.data(), logits.size());
    };
    return session->session.evaluate(std::span(tokens, count), forward, token_of(known.cancel));
  });
}

otr_status otr_session_get_logits(const otr_session* session, const float** logits, size_t* count, otr_error* error) {
  if (logits != nullptr) *logits = nullptr;
  return with_session(session, error, [&]() -> Status {
    OTR_CAPI_TRY(require(logits, "logits"));
    OTR_CAPI_TRY(require(count, "count"));
    OTR_CAPI_TRY(check_logits(session));
    *logits = session->session.logits().data();
    *count = session->session.logits().size();
    return {};
  });
}

otr_status otr_session_sample(const otr_session* session, otr_sampler* sampler, int32_t* token, otr_error* error) {
  return with_session(session, error, [&]() -> Status {
    OTR_CAPI_TRY(require(sampler, "sampler"));
    OTR_CAPI_TRY(require(token, "token"));
    OTR_CAPI_TRY(check_logits(session));
    OTR_CAPI_ASSIGN(drawn, sampler->sampler.sample(session->session.logits(), session->session.tokens()));
    *token = drawn;
    return {};
  });
}

otr_status otr_session_get_tokens(const otr_session* session, int32_t* tokens, size_t capacity, size_t* count, otr_error* error) {
  return with_session(session, error, [&]() -> Status {
    OTR_CAPI_TRY(require(count, "count"));
    return give_array<int32_t>(session->session.tokens(), tokens, capacity, count);
  });
}

otr_status otr_session_get_position(const otr_session* session, uint64_t* position_tokens, uint64_t* context_tokens, otr_error* error) {
  return with_session(session, error, [&]() -> Status {
    if (position_tokens != nullptr) *position_tokens = session->session.tokens().size();
    if (context_tokens != nullptr) *context_tokens = session->session.context_tokens();
    return {};
  });
}

otr_status otr_session_truncate(otr_session* session, uint64_t position_tokens, otr_error* error) {
  return with_session(session, error, [&]() -> Status {
    // Before it is narrowed to the 32 bits a session counts with.
    const uint64_t held = session->session.tokens().size();
    if (position_tokens > held) {
      return invalid("position_tokens: got " + std::to_string(position_tokens) + ", need at most the " + std::to_string(held) +
                     " tokens it holds");
    }
    return session->session.truncate(static_cast<uint32_t>(position_tokens));
  });
}

otr_status otr_session_fork(const otr_session* session, otr_session** fork, otr_error* error) {
  if (fork != nullptr) *fork = nullptr;
  return with_session(session, error, [&]() -> Status {
    OTR_CAPI_TRY(require(fork, "fork"));
    return give_handle(session->session.fork(), fork, session->engine);
  });
}

otr_status otr_session_save(const otr_session* session, void* state, size_t capacity, size_t* bytes, otr_error* error) {
  return with_session(session, error, [&]() -> Status {
    OTR_CAPI_TRY(require(bytes, "bytes"));
    OTR_CAPI_ASSIGN(saved, session->session.save());
    return give_array<std::byte>(saved, static_cast<std::byte*>(state), capacity, bytes);
  });
}

otr_status otr_session_restore(otr_session* session, const void* state, size_t bytes, otr_error* error) {
  return with_session(session, error, [&]() -> Status {
    OTR_CAPI_TRY(require_array(state, bytes, "state"));
    return session->session.restore(std::span(static_cast<const std::byte*>(state), bytes));
  });
}

otr_status otr_session_save_file(const otr_session* session, const char* path, otr_error* error) {
  return with_session(session, error, [&]() -> Status {
    OTR_CAPI_TRY(require(path, "path"));
    return session->session.save_file(path);
  });
}

otr_status otr_session_restore_file(otr_session* session, const char* path, otr_error* error) {
  return with_session(session, error, [&]() -> Status {
    OTR_CAPI_TRY(require(path, "path"));
    return session->session.restore_file(path);
  });
}
