/* Sessions, samplers and generation. */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/capi/check.h"
#include "tests/capi/stack.h"

static const int32_t kPrompt[] = {256, 't', 'h', 'e', ' ', 'e', 'n', 'd'};
enum { kPromptTokens = 8, kContext = 64 };

/* What a callback of otr_session_generate saw. */
typedef struct listener {
  int32_t tokens[kContext];
  char text[4 * kContext];
  size_t token_count, text_bytes;
  size_t stop_after;            /* tokens; 0: never */
  const otr_cancel* wait_until; /* waits until it is triggered; NULL: does not */
} listener;

static int32_t listen(void* user, int32_t token, const char* text, size_t bytes) {
  listener* l = user;
  if (token >= 0) l->tokens[l->token_count++] = token;
  memcpy(l->text + l->text_bytes, text, bytes);
  l->text_bytes += bytes;
  while (l->wait_until != NULL && !otr_cancel_is_triggered(l->wait_until)) {
  }
  return l->token_count == l->stop_after;
}

static void listening_options(otr_generate_options* options, listener* l) {
  memset(l, 0, sizeof *l);
  otr_generate_options_init(options, sizeof *options);
  options->ignore_eos = 1;
  options->on_token = listen;
  options->user = l;
}

static uint64_t position_of(const otr_session* session) {
  uint64_t position = 0;
  CHECK_C(otr_session_get_position(session, &position, NULL, NULL) == OTR_OK);
  return position;
}

static int same_logits(const otr_session* a, const otr_session* b) {
  const float *la = NULL, *lb = NULL;
  size_t na = 0, nb = 0;
  return otr_session_get_logits(a, &la, &na, NULL) == OTR_OK && otr_session_get_logits(b, &lb, &nb, NULL) == OTR_OK && na == 261 &&
         nb == 261 && memcmp(la, lb, na * sizeof *la) == 0;
}

/* The stack's model with room for drafts; 0 if something failed. */
static int open_with_draft(stack* s, uint32_t draft_tokens, uint64_t draft_bytes) {
  otr_plan_options options;
  if (!stack_open(s, 1, kContext)) return 0;
  otr_session_close(&s->session);
  otr_engine_close(&s->engine);
  otr_plan_close(&s->plan);
  otr_plan_options_init(&options, sizeof options);
  CHECK_C(options.draft_tokens == 0 && options.draft_bytes == 0);
  options.prompt_tokens = options.new_tokens = kContext / 2;
  options.host_budget_bytes = 0;
  options.draft_tokens = draft_tokens;
  options.draft_bytes = draft_bytes;
  return otr_plan_make(s->model, some_profile(), &options, &s->plan, &s->error) == OTR_OK &&
         otr_engine_open(s->model, s->plan, NULL, &s->engine, &s->error) == OTR_OK &&
         otr_session_open(s->engine, NULL, &s->session, &s->error) == OTR_OK;
}

void drafts_change_no_token(void) {
  static const int32_t kinds[] = {OTR_DRAFT_NONE, OTR_DRAFT_AUTO, OTR_DRAFT_NGRAM, OTR_DRAFT_MODEL};
  listener l;
  otr_generate_options options;
  otr_memory_report memory = {sizeof memory};
  int32_t plain[kContext];
  uint64_t bytes = 0, batch_bytes = 0;
  size_t i;
  stack s;
  if (!stack_open(&s, 1, kContext)) return;
  NEED_C(otr_model_draft_bytes(s.model, kContext, 1, &bytes, &s.error) == OTR_OK);
  CHECK_C(bytes > 0);
  NEED_C(otr_model_draft_batch_bytes(s.model, kContext, 1, 3, &batch_bytes, &s.error) == OTR_OK);
  CHECK_C(batch_bytes > bytes && batch_bytes < 3 * bytes);
  CHECK_C(otr_model_draft_batch_bytes(s.model, kContext, 1, 0, &batch_bytes, &s.error) == OTR_INVALID_ARGUMENT && batch_bytes == 0);
  stack_close(&s);
  NEED_C(open_with_draft(&s, 6, bytes));
  for (i = 0; i < sizeof kinds / sizeof *kinds; ++i) {
    otr_generate_result result = {sizeof result};
    const int is_model = kinds[i] == OTR_DRAFT_MODEL;
    listening_options(&options, &l);
    CHECK_C(options.draft == OTR_DRAFT_NONE && options.draft_tokens == 0 && options.draft_path == NULL);
    options.max_tokens = 40;
    options.draft = kinds[i];
    options.draft_tokens = kinds[i] == OTR_DRAFT_NONE ? 0 : 5;
    options.draft_path = is_model ? tiny_model_path() : NULL;
    NEED_C(otr_session_truncate(s.session, 0, &s.error) == OTR_OK);
    NEED_C(otr_session_prepare_draft(s.session, &options, &s.error) == OTR_OK);
    CHECK_C(otr_engine_get_memory(s.engine, OTR_TIER_HOST, &memory, &s.error) == OTR_OK && (memory.draft_bytes > 0) == is_model);
    NEED_C(otr_session_generate(s.session, kPrompt, kPromptTokens, &options, &result, &s.error) == OTR_OK);
    CHECK_C(l.token_count == 40);
    if (i == 0) memcpy(plain, l.tokens, sizeof plain);
    CHECK_C(memcmp(plain, l.tokens, 40 * sizeof *plain) == 0);
    CHECK_C(result.draft == (kinds[i] == OTR_DRAFT_AUTO ? OTR_DRAFT_NGRAM : kinds[i]));
    CHECK_C((result.passes > 0) == (i > 0) && result.accepted_tokens <= result.drafted_tokens);
    CHECK_C((result.expected_accepted_tokens > 0) == (result.drafted_tokens > 0));
    CHECK_C(result.expected_accepted_tokens <= (double)result.drafted_tokens);
    CHECK_C((result.verify_ms > 0) == (i > 0) && (result.draft_ms > 0) == (i > 0) &&
            result.draft_ms + result.verify_ms <= result.decode_ms);
    if (!is_model) continue;
    /* A model that drafts for itself is always right. */
    CHECK_C(result.drafted_tokens > 20 && result.accepted_tokens == result.drafted_tokens && result.accepted_at[0] + 1 >= result.passes);
    CHECK_C(memcmp(result.drafted_at, result.accepted_at, sizeof result.drafted_at) == 0);
    CHECK_C(result.tokens_per_pass > 4 && result.draft_auto_off == 0 && result.tree_passes == 0);
    CHECK_C(result.ms_per_token_drafted == 0 && result.ms_per_token_plain == 0);
    options.draft_shape = OTR_DRAFT_SHAPE_TREE;
    options.draft_tokens = 6;
    NEED_C(otr_session_truncate(s.session, 0, &s.error) == OTR_OK);
    l.token_count = 0;
    NEED_C(otr_session_generate(s.session, kPrompt, kPromptTokens, &options, &result, &s.error) == OTR_OK);
    CHECK_C(l.token_count == 40 && memcmp(plain, l.tokens, 40 * sizeof *plain) == 0);
    CHECK_C(result.tree_passes > 0 && result.tree_passes <= result.passes && result.accepted_at[2] == 0);
    CHECK_C(result.drafted_at[0] == result.passes && result.drafted_at[2] == 0);
  }
  stack_close(&s);
}

void drafts_are_refused_by_name(void) {
  otr_generate_options options;
  uint64_t bytes = 0;
  stack s;
  NEED_C(open_with_draft(&s, 4, 4096));
  otr_generate_options_init(&options, sizeof options);
  options.draft = 7;
  CHECK_C(otr_session_prepare_draft(s.session, &options, &s.error) == OTR_INVALID_ARGUMENT &&
          strstr(s.error.message, "draft.kind") != NULL);
  options.draft = OTR_DRAFT_MODEL;
  CHECK_C(otr_session_prepare_draft(s.session, &options, &s.error) == OTR_INVALID_ARGUMENT &&
          strstr(s.error.message, "draft.path") != NULL);
  options.draft_path = "/nowhere/draft.gguf";
  CHECK_C(otr_session_prepare_draft(s.session, &options, &s.error) == OTR_NOT_FOUND);
  options.draft_path = tiny_model_path();
  CHECK_C(otr_session_generate(s.session, kPrompt, kPromptTokens, &options, NULL, &s.error) == OTR_BUDGET && s.error.given_bytes == 4096 &&
          s.error.needed_bytes > 4096);
  options.draft_path = NULL;
  options.draft = OTR_DRAFT_SELF;
  CHECK_C(otr_session_prepare_draft(s.session, &options, &s.error) == OTR_UNSUPPORTED);
  options.draft = OTR_DRAFT_NGRAM;
  options.draft_tokens = OTR_MOST_DRAFT_TOKENS + 1;
  CHECK_C(otr_session_prepare_draft(s.session, &options, &s.error) == OTR_INVALID_ARGUMENT &&
          strstr(s.error.message, "draft.tokens") != NULL);
  options.draft_shape = OTR_DRAFT_SHAPE_TREE;
  CHECK_C(otr_session_prepare_draft(s.session, &options, &s.error) == OTR_OK);
  options.draft_tokens = OTR_MOST_TREE_DRAFT_TOKENS + 1;
  CHECK_C(otr_session_prepare_draft(s.session, &options, &s.error) == OTR_INVALID_ARGUMENT &&
          strstr(s.error.message, "draft.tokens") != NULL);
  options.draft_tokens = 4;
  options.draft_shape = 3;
  CHECK_C(otr_session_prepare_draft(s.session, &options, &s.error) == OTR_INVALID_ARGUMENT &&
          strstr(s.error.message, "draft.shape") != NULL);
  options.draft_shape = OTR_DRAFT_SHAPE_AUTO;
  options.reserved_too = 1;
  CHECK_C(otr_session_prepare_draft(s.session, &options, &s.error) == OTR_INVALID_ARGUMENT);
  CHECK_C(otr_session_prepare_draft(s.session, NULL, &s.error) == OTR_INVALID_ARGUMENT);
  CHECK_C(otr_session_prepare_draft(NULL, &options, &s.error) == OTR_INVALID_ARGUMENT);
  CHECK_C(otr_model_draft_bytes(NULL, 1, 1, &bytes, &s.error) == OTR_INVALID_ARGUMENT);
  CHECK_C(otr_model_draft_bytes(s.model, 1, 1, NULL, &s.error) == OTR_INVALID_ARGUMENT);
  CHECK_C(otr_model_draft_bytes(s.model, 0, 1, &bytes, &s.error) == OTR_INVALID_ARGUMENT);
  stack_close(&s);
}

void generating_equals_stepping(void) {
  listener l;
  otr_generate_options options;
  otr_generate_result result = {sizeof result};
  otr_sampler* sampler = NULL;
  otr_session* stepped = NULL;
  int32_t tokens[kContext], token = -1;
  char text[4 * kContext];
  size_t i, count = 0, bytes = 0;
  uint64_t position = 0, context = 0;
  stack s;
  if (!stack_open(&s, 2, kContext)) return;
  CHECK_C(otr_session_generated_tokens(s.session, NULL, 0, &count, &s.error) == OTR_OK && count == 0);
  listening_options(&options, &l);
  CHECK_C(options.max_tokens == 128);
  options.max_tokens = 20;
  NEED_C(otr_session_generate(s.session, kPrompt, kPromptTokens, &options, &result, &s.error) == OTR_OK);
  CHECK_C(result.stop_reason == OTR_STOP_LENGTH && result.prompt_tokens == kPromptTokens && result.generated_tokens == 20);
  CHECK_C(result.prefill_ms > 0 && result.prefill_tokens_per_s > 0 && result.decode_ms > 0 && result.decode_tokens_per_s > 0);
  CHECK_C(result.time_to_first_token_ms >= result.prefill_ms);
  CHECK_C(l.token_count == 20 && l.text_bytes == result.text_bytes);

  NEED_C(otr_session_generated_tokens(s.session, tokens, kContext, &count, &s.error) == OTR_OK);
  CHECK_C(count == 20 && memcmp(tokens, l.tokens, sizeof(int32_t) * 20) == 0);
  CHECK_C(otr_session_generated_tokens(s.session, tokens, 19, &count, &s.error) == OTR_INVALID_ARGUMENT);
  NEED_C(otr_session_generated_text(s.session, text, sizeof text, &bytes, &s.error) == OTR_OK);
  CHECK_C(bytes == l.text_bytes && memcmp(text, l.text, bytes) == 0);
  CHECK_C(otr_session_get_position(s.session, &position, &context, &s.error) == OTR_OK && position == kPromptTokens + 20 &&
          context == kContext);

  NEED_C(otr_session_open(s.engine, NULL, &stepped, &s.error) == OTR_OK);
  NEED_C(otr_sampler_create(NULL, &sampler, &s.error) == OTR_OK);
  NEED_C(otr_session_prefill(stepped, kPrompt, kPromptTokens, NULL, &s.error) == OTR_OK);
  for (i = 0; i < 20; ++i) {
    NEED_C(otr_session_sample(stepped, sampler, &token, &s.error) == OTR_OK);
    CHECK_C(token == l.tokens[i]);
    NEED_C(otr_session_step(stepped, token, &s.error) == OTR_OK);
  }
  NEED_C(otr_session_get_tokens(stepped, NULL, 0, &count, &s.error) == OTR_OK && count == kPromptTokens + 20);
  CHECK_C(otr_session_get_tokens(stepped, tokens, count - 1, &count, &s.error) == OTR_INVALID_ARGUMENT);
  CHECK_C(otr_session_get_tokens(stepped, tokens, kContext, &count, &s.error) == OTR_OK);
  CHECK_C(memcmp(tokens, kPrompt, sizeof kPrompt) == 0 && memcmp(tokens + kPromptTokens, l.tokens, sizeof(int32_t) * 20) == 0);
  otr_sampler_close(&sampler);
  otr_session_close(&stepped);
  stack_close(&s);
}

void a_directory_is_a_model_too(void) {
  const char* paths[2];
  int32_t prompt[8], tokens[2][16];
  size_t i, count = 0;
  char folder[512];
  otr_error error = {sizeof error};
  otr_model* model = NULL;
  paths[0] = float16_file_path(), paths[1] = float16_folder_path();
  for (i = 0; i < 8; ++i) prompt[i] = (int32_t)(i * 5 + 3);
  for (i = 0; i < 2; ++i) {
    stack s;
    otr_generate_options options;
    otr_generate_result result = {sizeof result};
    otr_model_info info = {sizeof info};
    if (!stack_open_path(&s, paths[i], 1, 64)) return;
    CHECK_C(otr_model_get_info(s.model, &info, &s.error) == OTR_OK && info.can_run == 1 && strcmp(info.file, paths[i]) == 0);
    otr_generate_options_init(&options, sizeof options);
    options.max_tokens = 16;
    options.ignore_eos = 1;
    CHECK_C(otr_session_generate(s.session, prompt, 8, &options, &result, &s.error) == OTR_OK);
    CHECK_C(otr_session_generated_tokens(s.session, tokens[i], 16, &count, &s.error) == OTR_OK && count == 16);
    stack_close(&s);
  }
  CHECK_C(memcmp(tokens[0], tokens[1], sizeof tokens[0]) == 0);

  snprintf(folder, sizeof folder, "%s/..", float16_folder_path()); /* no config.json there */
  CHECK_C(otr_model_open(folder, NULL, &model, &error) == OTR_IO && model == NULL);
  CHECK_C(strstr(error.message, "config.json") != NULL);
}

void a_callback_stops_generation(void) {
  listener l;
  otr_generate_options options;
  otr_generate_result result = {sizeof result};
  stack s;
  if (!stack_open(&s, 1, kContext)) return;
  listening_options(&options, &l);
  l.stop_after = 3;
  NEED_C(otr_session_generate(s.session, kPrompt, kPromptTokens, &options, &result, &s.error) == OTR_OK);
  CHECK_C(result.stop_reason == OTR_STOP_CANCELLED && result.generated_tokens == 3 && l.token_count == 3);
  CHECK_C(position_of(s.session) == kPromptTokens + 3);
  stack_close(&s);
}

static void* trigger(void* cancel) {
  otr_cancel_trigger(cancel);
  return NULL;
}

void another_thread_stops_generation(void) {
  listener l;
  otr_generate_options options;
  otr_generate_result result = {sizeof result};
  otr_cancel* cancel = NULL;
  pthread_t thread;
  stack s;
  if (!stack_open(&s, 1, kContext)) return;
  NEED_C(otr_cancel_create(&cancel, &s.error) == OTR_OK);
  listening_options(&options, &l);
  options.cancel = l.wait_until = cancel;
  NEED_C(pthread_create(&thread, NULL, trigger, cancel) == 0);
  /* However early the other thread comes, the generation ends by it: in the prompt, or after the token whose callback waits for it. */
  NEED_C(otr_session_generate(s.session, kPrompt, kPromptTokens, &options, &result, &s.error) == OTR_OK);
  pthread_join(thread, NULL);
  CHECK_C(result.stop_reason == OTR_STOP_CANCELLED && result.generated_tokens <= 1);

  otr_cancel_reset(cancel);
  l.wait_until = NULL;
  l.token_count = l.text_bytes = 0;
  options.max_tokens = 5;
  CHECK_C(otr_session_generate(s.session, kPrompt, kPromptTokens, &options, &result, &s.error) == OTR_OK);
  CHECK_C(result.stop_reason == OTR_STOP_LENGTH && result.generated_tokens == 5);
  otr_cancel_close(&cancel);
  stack_close(&s);
}

void a_stop_text_ends_generation(void) {
  static char text[4 * kContext];
  const char* stops[2] = {"never in the text", NULL};
  char stop[2] = "";
  listener l;
  otr_sampling_options sampling;
  otr_generate_options options;
  otr_generate_result result = {sizeof result};
  size_t bytes = 0, at;
  stack s;
  if (!stack_open(&s, 1, kContext)) return;
  listening_options(&options, &l);
  options.max_tokens = 40;
  otr_sampling_options_init(&sampling, sizeof sampling);
  sampling.temperature = 3; /* a random model's greedy text may be one byte for ever */
  sampling.seed = 7;
  options.sampling = &sampling;
  NEED_C(otr_session_generate(s.session, kPrompt, kPromptTokens, &options, NULL, &s.error) == OTR_OK);
  NEED_C(otr_session_generated_text(s.session, text, sizeof text, &bytes, &s.error) == OTR_OK);
  for (at = 1; at < bytes && !((unsigned char)text[at] < 128 && memchr(text, text[at], at) == NULL); ++at) {
  }
  NEED_C(at < bytes && text[at] != '\0');

  stop[0] = text[at];
  stops[1] = stop;
  options.stop = stops;
  options.stop_count = 2;
  l.token_count = l.text_bytes = 0;
  NEED_C(otr_session_truncate(s.session, 0, &s.error) == OTR_OK);
  NEED_C(otr_session_generate(s.session, kPrompt, kPromptTokens, &options, &result, &s.error) == OTR_OK);
  CHECK_C(result.stop_reason == OTR_STOP_TEXT);
  CHECK_C(result.text_bytes == at && l.text_bytes == at && memcmp(l.text, text, at) == 0);

  stops[1] = NULL;
  CHECK_C(otr_session_generate(s.session, kPrompt, kPromptTokens, &options, &result, &s.error) == OTR_INVALID_ARGUMENT);
  stack_close(&s);
}

void a_full_context_ends_generation(void) {
  listener l;
  otr_session_options session_options;
  otr_session* small = NULL;
  otr_generate_options options;
  otr_generate_result result = {sizeof result};
  stack s;
  if (!stack_open(&s, 2, kContext)) return;
  otr_session_options_init(&session_options, sizeof session_options);
  CHECK_C(session_options.context_tokens == 0);
  session_options.context_tokens = kContext + 1;
  CHECK_C(otr_session_open(s.engine, &session_options, &small, &s.error) == OTR_INVALID_ARGUMENT && small == NULL);
  session_options.context_tokens = kPromptTokens + 4;
  NEED_C(otr_session_open(s.engine, &session_options, &small, &s.error) == OTR_OK);

  listening_options(&options, &l);
  NEED_C(otr_session_generate(small, kPrompt, kPromptTokens, &options, &result, &s.error) == OTR_OK);
  CHECK_C(result.stop_reason == OTR_STOP_LENGTH && result.generated_tokens == 4 && position_of(small) == kPromptTokens + 4);
  CHECK_C(otr_session_step(small, 1, &s.error) == OTR_INVALID_ARGUMENT);
  CHECK_C(otr_session_prefill(small, kPrompt, kPromptTokens, NULL, &s.error) == OTR_INVALID_ARGUMENT);
  CHECK_C(otr_session_generate(small, kPrompt, 1, &options, &result, &s.error) == OTR_INVALID_ARGUMENT);
  CHECK_C(position_of(small) == kPromptTokens + 4);
  otr_session_close(&small);
  stack_close(&s);
}

typedef struct logit_listener {
  float first[kPromptTokens]; /* the first logit of each row */
  size_t calls;
  const otr_cancel* trigger_at_2;
} logit_listener;

static void on_logits(void* user, size_t index, const float* logits, size_t count) {
  logit_listener* l = user;
  CHECK_C(index == l->calls && count == 261 && index < kPromptTokens);
  l->first[l->calls++] = logits[0];
  if (l->calls == 2) otr_cancel_trigger(l->trigger_at_2);
}

void evaluation_gives_every_tokens_logits(void) {
  logit_listener l = {{0}, 0, NULL};
  otr_evaluate_options options;
  otr_session* stepped = NULL;
  otr_cancel* cancel = NULL;
  const float* logits = NULL;
  size_t i, count = 0;
  stack s;
  if (!stack_open(&s, 2, kContext)) return;
  otr_evaluate_options_init(&options, sizeof options);
  CHECK_C(otr_session_evaluate(s.session, kPrompt, kPromptTokens, &options, &s.error) == OTR_INVALID_ARGUMENT); /* no callback */
  options.on_logits = on_logits;
  options.user = &l;
  NEED_C(otr_session_evaluate(s.session, kPrompt, kPromptTokens, &options, &s.error) == OTR_OK);
  CHECK_C(l.calls == kPromptTokens && position_of(s.session) == kPromptTokens);

  NEED_C(otr_session_open(s.engine, NULL, &stepped, &s.error) == OTR_OK);
  for (i = 0; i < kPromptTokens; ++i) {
    NEED_C(otr_session_step(stepped, kPrompt[i], &s.error) == OTR_OK);
    NEED_C(otr_session_get_logits(stepped, &logits, &count, &s.error) == OTR_OK);
    CHECK_C(logits[0] == l.first[i]);
  }
  CHECK_C(same_logits(s.session, stepped));
  otr_session_close(&stepped);

  /* The plan has one row of logits, so each token is a step, and the flag is looked at between steps. */
  NEED_C(otr_cancel_create(&cancel, &s.error) == OTR_OK);
  l.calls = 0;
  l.trigger_at_2 = options.cancel = cancel;
  CHECK_C(otr_session_evaluate(s.session, kPrompt, kPromptTokens, &options, &s.error) == OTR_CANCELLED);
  CHECK_C(l.calls == 2 && position_of(s.session) == kPromptTokens + 2);
  otr_cancel_close(&cancel);
  stack_close(&s);
}

typedef struct prefill_log {
  int calls;
  double last;
} prefill_log;

static int32_t on_prefill(void* user, double share) {
  prefill_log* log = user;
  ++log->calls;
  log->last = share;
  return 0;
}

void prefill_reports_progress(void) {
  prefill_log log = {0, 0};
  otr_prefill_options options;
  otr_generate_options generate;
  otr_cancel* cancel = NULL;
  stack s;
  if (!stack_open(&s, 1, kContext)) return;
  otr_prefill_options_init(&options, sizeof options);
  options.progress = on_prefill;
  options.user = &log;
  NEED_C(otr_session_prefill(s.session, kPrompt, kPromptTokens, &options, &s.error) == OTR_OK);
  CHECK_C(log.calls > 0 && log.last == 1);

  log.calls = 0;
  otr_generate_options_init(&generate, sizeof generate);
  generate.prefill_progress = on_prefill;
  generate.user = &log;
  generate.max_tokens = 1;
  CHECK_C(otr_session_generate(s.session, kPrompt, kPromptTokens, &generate, NULL, &s.error) == OTR_OK && log.calls > 0);

  NEED_C(otr_cancel_create(&cancel, &s.error) == OTR_OK);
  otr_cancel_trigger(cancel);
  options.cancel = cancel;
  CHECK_C(otr_session_prefill(s.session, kPrompt, kPromptTokens, &options, &s.error) == OTR_CANCELLED);
  otr_cancel_close(&cancel);
  stack_close(&s);
}

void a_state_is_saved_and_restored(void) {
  otr_session* other = NULL;
  char *state, *path;
  size_t bytes = 0, again = 0;
  stack s;
  if (!stack_open(&s, 2, kContext)) return;
  NEED_C(otr_session_open(s.engine, NULL, &other, &s.error) == OTR_OK);
  NEED_C(otr_session_prefill(s.session, kPrompt, kPromptTokens, NULL, &s.error) == OTR_OK);
  NEED_C(otr_session_save(s.session, NULL, 0, &bytes, &s.error) == OTR_OK && bytes > 0);
  state = malloc(bytes);
  NEED_C(state != NULL);
  CHECK_C(otr_session_save(s.session, state, bytes - 1, &again, &s.error) == OTR_INVALID_ARGUMENT && again == bytes);
  NEED_C(otr_session_save(s.session, state, bytes, &again, &s.error) == OTR_OK && again == bytes);

  NEED_C(otr_session_restore(other, state, bytes, &s.error) == OTR_OK);
  CHECK_C(position_of(other) == kPromptTokens && same_logits(s.session, other));
  NEED_C(otr_session_step(other, 'x', &s.error) == OTR_OK && otr_session_step(s.session, 'x', &s.error) == OTR_OK);
  CHECK_C(same_logits(s.session, other));

  state[bytes / 2] ^= 1;
  CHECK_C(otr_session_restore(other, state, bytes, &s.error) == OTR_CORRUPT_FILE);
  CHECK_C(otr_session_restore(other, state, bytes - 1, &s.error) == OTR_CORRUPT_FILE);
  CHECK_C(otr_session_restore(other, NULL, 0, &s.error) == OTR_CORRUPT_FILE);
  CHECK_C(position_of(other) == kPromptTokens + 1 && same_logits(s.session, other));
  free(state);

  path = strdup(scratch_path("state.bin"));
  NEED_C(otr_session_save_file(s.session, path, &s.error) == OTR_OK);
  NEED_C(otr_session_truncate(other, 0, &s.error) == OTR_OK);
  CHECK_C(otr_session_restore_file(other, path, &s.error) == OTR_OK && same_logits(s.session, other));
  free(path);
  CHECK_C(otr_session_restore_file(other, scratch_path("not there"), &s.error) == OTR_NOT_FOUND);
  CHECK_C(otr_session_restore_file(other, tiny_model_path(), &s.error) == OTR_CORRUPT_FILE);
  CHECK_C(strcmp(s.error.file, tiny_model_path()) == 0);
  CHECK_C(otr_session_save_file(s.session, "/no/such/folder/state.bin", &s.error) != OTR_OK);
  otr_session_close(&other);
  stack_close(&s);
}

void a_fork_goes_its_own_way(void) {
  otr_session *fork = NULL, *third = NULL;
  stack s;
  if (!stack_open(&s, 2, kContext)) return;
  NEED_C(otr_session_prefill(s.session, kPrompt, kPromptTokens, NULL, &s.error) == OTR_OK);
  NEED_C(otr_session_fork(s.session, &fork, &s.error) == OTR_OK);
  CHECK_C(position_of(fork) == kPromptTokens && same_logits(s.session, fork));
  NEED_C(otr_session_step(fork, 'x', &s.error) == OTR_OK);
  CHECK_C(position_of(fork) == kPromptTokens + 1 && position_of(s.session) == kPromptTokens && !same_logits(s.session, fork));

  /* The plan is for two. */
  CHECK_C(otr_session_fork(s.session, &third, &s.error) == OTR_BUDGET && third == NULL && s.error.needed_bytes > 0);
  CHECK_C(otr_session_open(s.engine, NULL, &third, &s.error) == OTR_BUDGET && third == NULL);
  otr_session_close(&fork);
  CHECK_C(otr_session_open(s.engine, NULL, &third, &s.error) == OTR_OK);
  otr_session_close(&third);
  stack_close(&s);
}

void a_sampler_follows_its_options(void) {
  const float logits[4] = {1, 3, NAN, 2.5f}, none[2] = {-INFINITY, -INFINITY};
  const int32_t history[1] = {1};
  otr_error error = {sizeof error};
  otr_sampling_options options;
  otr_sampler *sampler = NULL, *twin = NULL;
  int32_t i, a = -1, b = -1;
  NEED_C(otr_sampler_create(NULL, &sampler, &error) == OTR_OK);
  CHECK_C(otr_sampler_sample(sampler, logits, 4, NULL, 0, &a, &error) == OTR_OK && a == 1);
  CHECK_C(otr_sampler_sample(sampler, none, 2, NULL, 0, &a, &error) == OTR_INVALID_ARGUMENT);
  CHECK_C(otr_sampler_sample(sampler, NULL, 0, NULL, 0, &a, &error) == OTR_INVALID_ARGUMENT);
  CHECK_C(otr_sampler_sample(sampler, logits, 4, NULL, 1, &a, &error) == OTR_INVALID_ARGUMENT);
  otr_sampler_close(&sampler);

  otr_sampling_options_init(&options, sizeof options);
  CHECK_C(options.temperature == 0 && options.top_k == 0 && options.top_p == 1 && options.min_p == 0 && options.repeat_penalty == 1 &&
          options.repeat_last_tokens == 64 && options.seed == 0);
  options.repeat_penalty = 2;
  NEED_C(otr_sampler_create(&options, &sampler, &error) == OTR_OK);
  CHECK_C(otr_sampler_sample(sampler, logits, 4, history, 1, &a, &error) == OTR_OK && a == 3); /* 3 / 2 < 2.5 */
  otr_sampler_close(&sampler);

  options.repeat_penalty = 1;
  options.temperature = 1;
  options.seed = 42;
  NEED_C(otr_sampler_create(&options, &sampler, &error) == OTR_OK && otr_sampler_create(&options, &twin, &error) == OTR_OK);
  for (i = 0; i < 50; ++i) {
    CHECK_C(otr_sampler_sample(sampler, logits, 4, NULL, 0, &a, &error) == OTR_OK);
    CHECK_C(otr_sampler_sample(twin, logits, 4, NULL, 0, &b, &error) == OTR_OK);
    CHECK_C(a == b && a != 2);
  }
  otr_sampler_close(&sampler);
  otr_sampler_close(&twin);

  options.temperature = NAN;
  CHECK_C(otr_sampler_create(&options, &sampler, &error) == OTR_INVALID_ARGUMENT && sampler == NULL);
  CHECK_C(strstr(error.message, "temperature") != NULL);
  options.temperature = 1;
  options.top_p = 2;
  CHECK_C(otr_sampler_create(&options, &sampler, &error) == OTR_INVALID_ARGUMENT);
  options.top_p = 1;
  options.reserved = 1;
  CHECK_C(otr_sampler_create(&options, &sampler, &error) == OTR_INVALID_ARGUMENT);
}
