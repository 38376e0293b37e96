// C API: samplers, sessions and generation.
#include <outrigger/batch.h>

#include <algorithm>
#include <deque>
#include <iterator>

#include "capi/capi_generation.h"

using outrigger::Sampler;
using outrigger::SamplingOptions;
using outrigger::Session;
using outrigger::Status;
using outrigger::Token;
using namespace outrigger::capi;  // NOLINT: this file is the C side of that namespace

namespace {

otr_sampling_options sampling_defaults() {
  const SamplingOptions greedy;
  otr_sampling_options options = {};
  options.struct_size = sizeof options;
  options.temperature = greedy.temperature;
  options.top_k = greedy.top_k;
  options.top_p = greedy.top_p;
  options.min_p = greedy.min_p;
  options.repeat_penalty = greedy.repeat_penalty;
  options.repeat_last_tokens = greedy.repeat_last_tokens;
  options.seed = greedy.seed;
  return options;
}

Status read_sampling(const otr_sampling_options* given, const char* what, SamplingOptions* sampling) {
  otr_sampling_options known = sampling_defaults();
  OTR_CAPI_TRY(read_options(given, what, &known));
  OTR_CAPI_TRY(check_reserved(known.reserved, what));
  sampling->temperature = known.temperature;
  sampling->top_k = known.top_k;
  sampling->top_p = known.top_p;
  sampling->min_p = known.min_p;
  sampling->repeat_penalty = known.repeat_penalty;
  sampling->repeat_last_tokens = known.repeat_last_tokens;
  sampling->seed = known.seed;
  return {};
}

template <typename Options>
Options only_size() {
  Options options = {};
  options.struct_size = sizeof options;
  return options;
}

otr_generate_options generate_defaults() {
  auto options = only_size<otr_generate_options>();
  options.max_tokens = 128;  // as GenerateOptions has it; to make one allocates, and an init function must not
  return options;
}

// Holds a session for one call. Session itself refuses a second thread where it computes; this one covers what is kept beside it, and a
// callback that calls the session it came from.
class Hold {
 public:
  explicit Hold(const otr_session* session) : session_(session) {}
  Hold(const Hold&) = delete;
  Hold& operator=(const Hold&) = delete;
  ~Hold() {
    if (held_) session_->busy.store(false, std::memory_order_release);
  }

  Status take() {
    OTR_CAPI_TRY(require(session_, "session"));
    held_ = !session_->busy.exchange(true, std::memory_order_acquire);
    return held_ ? Status() : invalid("the session is busy: another call on it has not returned");
  }

 private:
  const otr_session* session_;
  bool held_ = false;
};

// Every call on a session: guarded, and alone.
template <typename Body>
otr_status with_session(const otr_session* session, otr_error* error, Body&& body) noexcept {
  return guard(error, [&]() -> Status {
    Hold hold(session);
    OTR_CAPI_TRY(hold.take());
    return body();
  });
}

Status check_logits(const otr_session* session) {
  return !session->session.logits().empty()
             ? Status()
             : invalid("the session has no logits: nothing was computed since it was opened or truncated; prefill first");
}

otr_follow_load_options follow_load_defaults() {
  auto options = only_size<otr_follow_load_options>();
  options.max_slowdown = outrigger::FollowLoad().max_slowdown;
  return options;
}

Status read_draft(const otr_generate_options& known, outrigger::DraftOptions* draft) {
  draft->kind = static_cast<outrigger::DraftKind>(known.draft);
  draft->tokens = known.draft_tokens;
  draft->shape = static_cast<outrigger::DraftShape>(known.draft_shape);
  OTR_CAPI_TRY(check_reserved(known.reserved_too, "options"));
  if (known.draft_path != nullptr) draft->path = known.draft_path;
  return draft->validate();
}

}  // namespace

namespace outrigger::capi {

Status read_follow_load(const otr_follow_load_options* given, const char* what, FollowLoad* wanted) {
  otr_follow_load_options known = follow_load_defaults();
  OTR_CAPI_TRY(read_options(given, what, &known));
  OTR_CAPI_TRY(check_reserved(known.reserved, what));
  wanted->max_slowdown = known.max_slowdown;
  return {};
}

Status read_generate_options(const otr_generate_options* given, GenerateOptions* wanted) {
  otr_generate_options known = generate_defaults();
  OTR_CAPI_TRY(read_options(given, "options", &known));
  OTR_CAPI_TRY(check_reserved(known.reserved, "options"));
  OTR_CAPI_TRY(read_sampling(known.sampling, "options.sampling", &wanted->sampling));
  OTR_CAPI_TRY(require_array(known.stop, known.stop_count, "options.stop"));
  for (const char* text : std::span(known.stop, known.stop_count)) {
    OTR_CAPI_TRY(require(text, "a text of options.stop"));
    wanted->stop.emplace_back(text);
  }
  wanted->max_tokens = known.max_tokens;
  wanted->ignore_eos = known.ignore_eos != 0;
  wanted->prefill_progress = progress_of(known.prefill_progress, known.user);
  wanted->cancel = token_of(known.cancel);
  OTR_CAPI_TRY(read_draft(known, &wanted->draft));
  if (known.on_token != nullptr) {
    wanted->on_token = [on_token = known.on_token, user = known.user](const outrigger::GeneratedToken& made) {
      return on_token(user, made.token, made.text.data(), made.text.size()) == 0;
    };
  }
  return {};
}

otr_generate_result result_of(const GenerateResult& made, size_t prompt_tokens) {
  otr_generate_result full = {};
  full.stop_reason = static_cast<int32_t>(made.stop_reason);
  full.prompt_tokens = prompt_tokens;
  full.generated_tokens = made.tokens.size();
  full.text_bytes = made.text.size();
  full.prefill_ms = made.timings.prefill_ms;
  full.prefill_tokens_per_s = made.timings.prefill_tokens_per_s;
  full.time_to_first_token_ms = made.timings.time_to_first_token_ms;
  full.decode_ms = made.timings.decode_ms;
  full.decode_tokens_per_s = made.timings.decode_tokens_per_s;
  full.draft = static_cast<int32_t>(made.speculation.draft);
  full.draft_auto_off = made.speculation.auto_off ? 1 : 0;
  full.passes = made.speculation.passes;
  full.drafted_tokens = made.speculation.drafted;
  full.accepted_tokens = made.speculation.accepted;
  full.tokens_per_pass = made.speculation.tokens_per_pass;
  static_assert(std::size(otr_generate_result{}.accepted_at) == outrigger::kMostDraftTokens);
  std::copy(made.speculation.accepted_at.begin(), made.speculation.accepted_at.end(), full.accepted_at);
  full.tree_passes = made.speculation.tree_passes;
  full.quoted_passes = made.speculation.quoted_passes;
  full.following_steps = made.branches.steps;
  full.mean_branch_share = made.branches.mean_share;
  full.branch_slowdown = made.branches.slowdown;
  full.expected_accepted_tokens = made.speculation.expected_accepted;
  std::copy(made.speculation.drafted_at.begin(), made.speculation.drafted_at.end(), full.drafted_at);
  full.draft_ms = made.speculation.draft_ms;
  full.verify_ms = made.speculation.verify_ms;
  full.ms_per_token_drafted = made.speculation.ms_per_token_drafted;
  full.ms_per_token_plain = made.speculation.ms_per_token_plain;
  return full;
}

}  // namespace outrigger::capi

void otr_sampling_options_init(otr_sampling_options* options, uint32_t struct_size) { init(options, struct_size, sampling_defaults()); }

otr_status otr_sampler_create(const otr_sampling_options* options, otr_sampler** sampler, otr_error* error) {
  if (sampler != nullptr) *sampler = nullptr;
  return guard(error, [&]() -> Status {
    OTR_CAPI_TRY(require(sampler, "sampler"));
    SamplingOptions wanted;
    OTR_CAPI_TRY(read_sampling(options, "options", &wanted));
    return give_handle(Sampler::create(wanted), sampler);
  });
}

otr_status otr_sampler_sample(otr_sampler* sampler, const float* logits, size_t logit_count, const int32_t* history, size_t history_count,
                              int32_t* token, otr_error* error) {
  return guard(error, [&]() -> Status {
    OTR_CAPI_TRY(require(sampler, "sampler"));
    OTR_CAPI_TRY(require_array(logits, logit_count, "logits"));
    OTR_CAPI_TRY(require_array(history, history_count, "history"));
    OTR_CAPI_TRY(require(token, "token"));
    OTR_CAPI_ASSIGN(drawn, sampler->sampler.sample(std::span(logits, logit_count), std::span(history, history_count)));
    *token = drawn;
    return {};
  });
}

void otr_sampler_close(otr_sampler** sampler) { close(sampler); }

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
    return give_handle(Session::open(engine->engine, {known.context_tokens}), session);
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

otr_status otr_session_step_together(otr_session* const* sessions, const int32_t* tokens, size_t count, const otr_cancel* cancel, otr_error* error) {
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

void otr_generate_options_init(otr_generate_options* options, uint32_t struct_size) { init(options, struct_size, generate_defaults()); }

otr_status otr_session_prepare_draft(otr_session* session, const otr_generate_options* options, otr_error* error) {
  return with_session(session, error, [&]() -> Status {
    OTR_CAPI_TRY(require(options, "options"));
    otr_generate_options known = generate_defaults();
    OTR_CAPI_TRY(read_options(options, "options", &known));
    OTR_CAPI_TRY(check_reserved(known.reserved, "options"));
    outrigger::DraftOptions draft;
    OTR_CAPI_TRY(read_draft(known, &draft));
    return session->session.prepare_draft(draft, {}, token_of(known.cancel));
  });
}

otr_status otr_session_generate(otr_session* session, const int32_t* prompt, size_t prompt_count, const otr_generate_options* options,
                                otr_generate_result* result, otr_error* error) {
  return with_session(session, error, [&]() -> Status {
    OTR_CAPI_TRY(require_array(prompt, prompt_count, "prompt"));
    if (result != nullptr) OTR_CAPI_TRY(check_info(result, "result"));
    outrigger::GenerateOptions wanted;
    OTR_CAPI_TRY(read_generate_options(options, &wanted));
    OTR_CAPI_ASSIGN(made, session->session.generate(std::span(prompt, prompt_count), wanted));
    session->generated = std::move(made);
    if (result != nullptr) give_info(result_of(session->generated, prompt_count), result);
    return {};
  });
}

otr_status otr_session_generated_tokens(const otr_session* session, int32_t* tokens, size_t capacity, size_t* count, otr_error* error) {
  return with_session(session, error, [&]() -> Status {
    OTR_CAPI_TRY(require(count, "count"));
    return give_array<int32_t>(session->generated.tokens, tokens, capacity, count);
  });
}

otr_status otr_session_generated_text(const otr_session* session, char* text, size_t capacity, size_t* bytes, otr_error* error) {
  return with_session(session, error, [&]() -> Status {
    OTR_CAPI_TRY(require(bytes, "bytes"));
    return give_text(session->generated.text, text, capacity, bytes);
  });
}

otr_status otr_session_set_branch_share(otr_session* session, float share, otr_error* error) {
  return with_session(session, error, [&]() -> Status { return session->session.set_branch_share(share); });
}

void otr_follow_load_options_init(otr_follow_load_options* options, uint32_t struct_size) { init(options, struct_size, follow_load_defaults()); }

otr_status otr_session_follow_load(otr_session* session, const otr_follow_load_options* options, otr_error* error) {
  return with_session(session, error, [&]() -> Status {
    outrigger::FollowLoad wanted;
    OTR_CAPI_TRY(read_follow_load(options, "options", &wanted));
    return session->session.follow_load(wanted);
  });
}

otr_status otr_session_get_branch_use(const otr_session* session, otr_branch_use* use, otr_error* error) {
  return with_session(session, error, [&]() -> Status {
    OTR_CAPI_TRY(check_info(use, "use"));
    const outrigger::BranchUse made = session->session.branch_use();
    otr_branch_use full = {};
    full.follows_load = made.follows_load ? 1 : 0;
    full.steps = made.steps;
    full.mean_share = made.mean_share;
    full.slowdown = made.slowdown;
    give_info(full, use);
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
    return give_handle(session->session.fork(), fork);
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
