// C API: generation, alone.
#include "capi/capi_generation.h"

#include <outrigger/run_report.h>

#include <algorithm>
#include <iterator>
#include <span>
#include <utility>

#include "capi/capi_hold.h"

using outrigger::Status;
using namespace outrigger::capi;  // NOLINT: this file is the C side of that namespace

namespace {

otr_generate_options generate_defaults() {
  auto options = only_size<otr_generate_options>();
  options.max_tokens = 128;  // as GenerateOptions has it; to make one allocates, and an init function must not
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
  std::copy(made.speculation.chain_drafted_at.begin(), made.speculation.chain_drafted_at.end(), full.chain_drafted_at);
  std::copy(made.speculation.chain_accepted_at.begin(), made.speculation.chain_accepted_at.end(), full.chain_accepted_at);
  return full;
}

}  // namespace outrigger::capi

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
    session->prompt_tokens = prompt_count;
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

otr_status otr_session_generated_to_html(const otr_session* session, char* html, size_t capacity, size_t* bytes, otr_error* error) {
  return with_session(session, error, [&]() -> Status {
    OTR_CAPI_TRY(require(bytes, "bytes"));
    const outrigger::GenerateResult& made = session->generated;
    outrigger::RunReport report;
    report.prompt_tokens = session->prompt_tokens;
    report.tokens = made.tokens.size();
    report.prefill_tokens_per_s = made.timings.prefill_tokens_per_s;
    report.decode_tokens_per_s = made.timings.decode_tokens_per_s;
    report.speculation = made.speculation;
    OTR_CAPI_ASSIGN(page, outrigger::run_to_html(session->engine, report));
    return give_text(page, html, capacity, bytes);
  });
}
