/* Many texts at once, and steps of several sessions. */
#include <string.h>

#include "tests/capi/check.h"
#include "tests/capi/stack.h"

enum { kTexts = 7, kMost = 24, kContext = 64 };

static const int32_t kWords[] = {256, 't', 'h', 'e', ' ', 'e', 'n', 'd', ' ', 'o', 'f'};

/* What the callback of one text saw. */
typedef struct heard {
  int32_t tokens[kMost];
  size_t count, stop_after;
} heard;

static int32_t hear(void* user, int32_t token, const char* text, size_t bytes) {
  heard* h = user;
  (void)text, (void)bytes;
  if (token >= 0) h->tokens[h->count++] = token;
  return h->count == h->stop_after;
}

typedef struct requests {
  const int32_t* prompts[kTexts];
  size_t counts[kTexts];
  otr_generate_options options[kTexts];
  const otr_generate_options* pointers[kTexts];
  otr_sampling_options sampling;
  heard heard[kTexts];
} requests;

/* Prompts of 3 to 9 tokens, texts of 4 to 22, every other one drawn, and the sixth stopped by its callback. */
static void fill(requests* r) {
  size_t i;
  memset(r, 0, sizeof *r);
  otr_sampling_options_init(&r->sampling, sizeof r->sampling);
  r->sampling.temperature = 1;
  r->sampling.seed = 5;
  for (i = 0; i < kTexts; ++i) {
    r->prompts[i] = kWords + i % 3;
    r->counts[i] = 3 + i;
    r->pointers[i] = &r->options[i];
    otr_generate_options_init(&r->options[i], sizeof r->options[i]);
    r->options[i].max_tokens = (uint32_t)(4 + 3 * i);
    r->options[i].ignore_eos = 1;
    r->options[i].on_token = hear;
    r->options[i].user = &r->heard[i];
    if (i % 2 == 1) r->options[i].sampling = &r->sampling;
  }
  r->heard[5].stop_after = 3;
}

void a_batch_equals_its_texts_alone(void) {
  static requests alone, together;
  int32_t tokens[kMost], expected[kMost];
  char text[4 * kMost], expected_text[4 * kMost];
  otr_batch_report report = {sizeof report};
  otr_batch* batch = NULL;
  size_t i, count = 0, bytes = 0, expected_count = 0, expected_bytes = 0;
  stack s;
  if (!stack_open(&s, 3, kContext)) return;
  fill(&alone);
  fill(&together);
  CHECK_C(otr_batch_generate(s.engine, together.prompts, together.counts, kTexts, together.pointers, NULL, &batch, &s.error) == OTR_BUDGET);
  CHECK_C(batch == NULL); /* one of the three sessions is open */
  otr_session_close(&s.session);
  NEED_C(otr_batch_generate(s.engine, together.prompts, together.counts, kTexts, together.pointers, NULL, &batch, &s.error) == OTR_OK);
  NEED_C(otr_batch_get_report(batch, &report, &s.error) == OTR_OK);
  CHECK_C(report.texts == kTexts && report.most_at_once == 3 && report.steps > 0 && report.total_tokens_per_s > 0);
  CHECK_C(report.generated_tokens == 4 + 7 + 10 + 13 + 16 + 3 + 22 && report.prompt_tokens == 3 + 4 + 5 + 6 + 7 + 8 + 9);
  NEED_C(otr_session_open(s.engine, NULL, &s.session, &s.error) == OTR_OK);
  for (i = 0; i < kTexts; ++i) {
    otr_generate_result result = {sizeof result}, expected_result = {sizeof expected_result};
    NEED_C(otr_session_truncate(s.session, 0, &s.error) == OTR_OK);
    NEED_C(otr_session_generate(s.session, alone.prompts[i], alone.counts[i], &alone.options[i], &expected_result, &s.error) == OTR_OK);
    NEED_C(otr_session_generated_tokens(s.session, expected, kMost, &expected_count, &s.error) == OTR_OK);
    NEED_C(otr_session_generated_text(s.session, expected_text, sizeof expected_text, &expected_bytes, &s.error) == OTR_OK);
    NEED_C(otr_batch_get_result(batch, i, &result, &s.error) == OTR_OK);
    NEED_C(otr_batch_get_tokens(batch, i, tokens, kMost, &count, &s.error) == OTR_OK);
    NEED_C(otr_batch_get_text(batch, i, text, sizeof text, &bytes, &s.error) == OTR_OK);
    CHECK_C(result.stop_reason == expected_result.stop_reason && result.prompt_tokens == alone.counts[i]);
    CHECK_C(result.stop_reason == (i == 5 ? OTR_STOP_CANCELLED : OTR_STOP_LENGTH));
    CHECK_C(result.generated_tokens == expected_count && count == expected_count && memcmp(tokens, expected, count * sizeof *tokens) == 0);
    CHECK_C(result.text_bytes == expected_bytes && bytes == expected_bytes && memcmp(text, expected_text, bytes) == 0);
    CHECK_C(together.heard[i].count == alone.heard[i].count &&
            memcmp(together.heard[i].tokens, alone.heard[i].tokens, sizeof alone.heard[i].tokens) == 0);
  }
  otr_batch_close(&batch);
  CHECK_C(batch == NULL);
  stack_close(&s);
}

void a_batch_tells_each_text_its_own_error(void) {
  static requests r;
  otr_batch_options options;
  otr_generate_result result = {sizeof result};
  otr_cancel* cancel = NULL;
  otr_batch* batch = NULL;
  size_t i, count = 0;
  stack s;
  if (!stack_open(&s, 3, kContext)) return;
  fill(&r);
  r.counts[1] = 0;
  r.options[2].draft = OTR_DRAFT_SELF;
  r.pointers[3] = NULL; /* the defaults */
  otr_batch_options_init(&options, sizeof options);
  CHECK_C(options.sequences == 0 && options.context_tokens == 0 && options.branch_share == -1 && options.cancel == NULL &&
          options.groups == 0);
  options.sequences = 2;
  options.context_tokens = 32;
  NEED_C(otr_batch_generate(s.engine, r.prompts, r.counts, kTexts, r.pointers, &options, &batch, &s.error) == OTR_OK);
  CHECK_C(otr_batch_get_result(batch, 1, &result, &s.error) == OTR_INVALID_ARGUMENT && strstr(s.error.message, "no tokens given") != NULL);
  CHECK_C(otr_batch_get_tokens(batch, 1, NULL, 0, &count, &s.error) == OTR_INVALID_ARGUMENT);
  CHECK_C(otr_batch_get_text(batch, 1, NULL, 0, &count, &s.error) == OTR_INVALID_ARGUMENT);
  CHECK_C(otr_batch_get_result(batch, 2, &result, &s.error) == OTR_UNSUPPORTED && strstr(s.error.message, "'self'") != NULL);
  for (i = 3; i < kTexts; ++i) CHECK_C(otr_batch_get_result(batch, i, &result, &s.error) == OTR_OK);
  CHECK_C(otr_batch_get_result(batch, kTexts, &result, &s.error) == OTR_INVALID_ARGUMENT && strstr(s.error.message, "index") != NULL);
  otr_batch_close(&batch);

  options.sequences = 4;
  CHECK_C(otr_batch_generate(s.engine, r.prompts, r.counts, kTexts, r.pointers, &options, &batch, &s.error) == OTR_INVALID_ARGUMENT);
  CHECK_C(strstr(s.error.message, "sequences") != NULL && batch == NULL);
  options.sequences = 2;
  options.groups = 3;
  CHECK_C(otr_batch_generate(s.engine, r.prompts, r.counts, kTexts, r.pointers, &options, &batch, &s.error) == OTR_INVALID_ARGUMENT);
  CHECK_C(strstr(s.error.message, "groups") != NULL && batch == NULL);
  options.groups = 2;
  NEED_C(otr_cancel_create(&cancel, &s.error) == OTR_OK);
  otr_cancel_trigger(cancel);
  options.cancel = cancel;
  NEED_C(otr_batch_generate(s.engine, r.prompts, r.counts, kTexts, NULL, &options, &batch, &s.error) == OTR_OK);
  CHECK_C(otr_batch_get_result(batch, 6, &result, &s.error) == OTR_OK && result.stop_reason == OTR_STOP_CANCELLED &&
          result.generated_tokens == 0);
  otr_batch_close(&batch);
  otr_cancel_close(&cancel);
  stack_close(&s);
}

void sessions_step_together(void) {
  const int32_t tokens[] = {'x', 'y'};
  const float *together = NULL, *alone = NULL;
  otr_session* sessions[3] = {NULL, NULL, NULL};
  size_t i, count = 0;
  stack s;
  if (!stack_open(&s, 3, kContext)) return;
  for (i = 0; i < 2; ++i) {
    NEED_C(otr_session_open(s.engine, NULL, &sessions[i], &s.error) == OTR_OK);
    NEED_C(otr_session_prefill(sessions[i], kWords, 4 + i, NULL, &s.error) == OTR_OK);
  }
  NEED_C(otr_session_step_together(sessions, tokens, 2, NULL, &s.error) == OTR_OK);
  for (i = 0; i < 2; ++i) {
    NEED_C(otr_session_truncate(s.session, 0, &s.error) == OTR_OK);
    NEED_C(otr_session_prefill(s.session, kWords, 4 + i, NULL, &s.error) == OTR_OK);
    NEED_C(otr_session_step(s.session, tokens[i], &s.error) == OTR_OK);
    NEED_C(otr_session_get_logits(s.session, &alone, &count, &s.error) == OTR_OK);
    NEED_C(otr_session_get_logits(sessions[i], &together, &count, &s.error) == OTR_OK);
    CHECK_C(memcmp(alone, together, count * sizeof *alone) == 0);
  }
  sessions[2] = sessions[0];
  CHECK_C(otr_session_step_together(sessions + 1, tokens, 0, NULL, &s.error) == OTR_INVALID_ARGUMENT);
  CHECK_C(otr_session_step_together(sessions, kWords, 3, NULL, &s.error) == OTR_INVALID_ARGUMENT &&
          strstr(s.error.message, "busy") != NULL);
  CHECK_C(otr_session_step_together(NULL, tokens, 2, NULL, &s.error) == OTR_INVALID_ARGUMENT);
  CHECK_C(otr_session_step_together(sessions, NULL, 2, NULL, &s.error) == OTR_INVALID_ARGUMENT);
  sessions[2] = NULL;
  CHECK_C(otr_session_step_together(sessions, kWords, 3, NULL, &s.error) == OTR_INVALID_ARGUMENT &&
          strstr(s.error.message, "session") != NULL);
  for (i = 0; i < 2; ++i) otr_session_close(&sessions[i]);
  stack_close(&s);
}
