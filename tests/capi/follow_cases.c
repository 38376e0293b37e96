/* Sessions and batches whose share of branches follows the load. */
#include <stdio.h>
#include <string.h>

#include "tests/capi/check.h"
#include "tests/capi/stack.h"

enum { kPromptTokens = 6, kNewTokens = 7, kContext = 64, kTexts = 2 };
static const int32_t kPrompt[kPromptTokens] = {3, 14, 15, 92, 65, 35};

/* A small model with branches. 0: it could not be made, which is then reported. */
static int make_branched(char* path, size_t capacity) {
  otr_error error = {sizeof error};
  otr_compress_options options;
  otr_model* model = NULL;
  int32_t tokens[96];
  int i, is_made;
  snprintf(path, capacity, "%s", scratch_path("to-follow.gguf"));
  for (i = 0; i < 96; ++i) tokens[i] = (i * i * 31 + i * 7) % 200;
  otr_compress_options_init(&options, sizeof options);
  options.bits = 3;
  options.form = OTR_BRANCHES_LOW_RANK;
  options.chunk_tokens = 32;
  options.branch_bytes = 20000;
  is_made = otr_model_open(dense_model_path(), NULL, &model, &error) == OTR_OK &&
            otr_model_compress(model, tokens, 96, path, &options, NULL, &error) == OTR_OK;
  CHECK_C(is_made);
  otr_model_close(&model);
  return is_made;
}

static void options_are_checked(stack* s) {
  otr_follow_load_options options;
  otr_branch_use use = {sizeof use};
  otr_follow_load_options_init(NULL, sizeof options);
  otr_follow_load_options_init(&options, sizeof options);
  CHECK_C(options.max_slowdown == 0.05 && options.reserved == 0);
  options.max_slowdown = 0;
  CHECK_C(otr_session_follow_load(s->session, &options, &s->error) == OTR_INVALID_ARGUMENT &&
          strstr(s->error.message, "max_slowdown") != NULL);
  otr_follow_load_options_init(&options, sizeof options);
  options.reserved = 1;
  CHECK_C(otr_session_follow_load(s->session, &options, &s->error) == OTR_INVALID_ARGUMENT);
  CHECK_C(otr_session_get_branch_use(s->session, &use, &s->error) == OTR_OK && use.follows_load == 0 && use.steps == 0);
}

void a_session_follows_the_load(void) {
  char path[512];
  otr_generate_options generate;
  otr_generate_result result = {sizeof result};
  otr_branch_use use = {sizeof use};
  stack s;
  if (!make_branched(path, sizeof path) || !stack_open_path(&s, path, 1, kContext)) return;
  options_are_checked(&s);
  NEED_C(otr_session_follow_load(s.session, NULL, &s.error) == OTR_OK);
  otr_generate_options_init(&generate, sizeof generate);
  generate.max_tokens = kNewTokens;
  generate.ignore_eos = 1;
  NEED_C(otr_session_generate(s.session, kPrompt, kPromptTokens, &generate, &result, &s.error) == OTR_OK);
  /* The third and the sixth of the first steps use none. */
  CHECK_C(result.following_steps == kNewTokens - 1 && result.mean_branch_share > 0.66 && result.mean_branch_share < 0.67);
  NEED_C(otr_session_get_branch_use(s.session, &use, &s.error) == OTR_OK);
  CHECK_C(use.follows_load == 1 && use.steps == result.following_steps && use.mean_share == result.mean_branch_share);
  CHECK_C(use.slowdown == result.branch_slowdown);
  generate.draft = OTR_DRAFT_NGRAM;
  CHECK_C(otr_session_generate(s.session, kPrompt, kPromptTokens, &generate, NULL, &s.error) == OTR_UNSUPPORTED);
  generate.draft = OTR_DRAFT_NONE;
  NEED_C(otr_session_set_branch_share(s.session, 0.5f, &s.error) == OTR_OK);
  NEED_C(otr_session_generate(s.session, kPrompt, kPromptTokens, &generate, &result, &s.error) == OTR_OK);
  CHECK_C(result.following_steps == 0 && result.mean_branch_share == 0);
  stack_close(&s);
}

void a_batch_follows_the_load(void) {
  char path[512];
  const int32_t* prompts[kTexts] = {kPrompt, kPrompt};
  const size_t counts[kTexts] = {kPromptTokens, kPromptTokens};
  const otr_generate_options* each[kTexts];
  otr_generate_options generate;
  otr_follow_load_options follow;
  otr_batch_options options;
  otr_batch_report report = {sizeof report};
  otr_generate_result result = {sizeof result};
  otr_batch* batch = NULL;
  stack s;
  if (!make_branched(path, sizeof path) || !stack_open_path(&s, path, kTexts, kContext)) return;
  otr_session_close(&s.session);
  otr_generate_options_init(&generate, sizeof generate);
  generate.max_tokens = kNewTokens;
  generate.ignore_eos = 1;
  each[0] = each[1] = &generate;
  otr_follow_load_options_init(&follow, sizeof follow);
  otr_batch_options_init(&options, sizeof options);
  CHECK_C(options.follow_load == NULL);
  options.follow_load = &follow;
  NEED_C(otr_batch_generate(s.engine, prompts, counts, kTexts, each, &options, &batch, &s.error) == OTR_OK);
  NEED_C(otr_batch_get_report(batch, &report, &s.error) == OTR_OK);
  CHECK_C(report.following_steps == kNewTokens - 1 && report.mean_branch_share > 0.66 && report.mean_branch_share < 0.67);
  NEED_C(otr_batch_get_result(batch, 1, &result, &s.error) == OTR_OK);
  CHECK_C(result.following_steps == report.following_steps && result.branch_slowdown == report.branch_slowdown);
  otr_batch_close(&batch);
  follow.max_slowdown = -1;
  CHECK_C(otr_batch_generate(s.engine, prompts, counts, kTexts, each, &options, &batch, &s.error) == OTR_INVALID_ARGUMENT);
  CHECK_C(strstr(s.error.message, "max_slowdown") != NULL);
  stack_close(&s);
}
