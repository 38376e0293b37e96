/* What drafts take and are expected to give, and where they compute. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/capi/check.h"
#include "tests/capi/stack.h"

void a_draft_model_computes_on_the_device(void) {
  static const int32_t prompt[] = {3, 14, 15, 92, 65};
  otr_plan_summary summary = {sizeof summary};
  otr_memory_report memory = {sizeof memory};
  otr_draft_forecast forecast = {sizeof forecast};
  otr_generate_result result = {sizeof result};
  otr_plan_options options;
  otr_engine_options engine_options;
  otr_generate_options generate;
  otr_profile* profile = device_profile();
  uint64_t host = 1, there = 1;
  stack s;
  NEED_C(profile != NULL);
  if (!stack_open(&s, 1, 64)) return;
  CHECK_C(otr_model_draft_device_bytes(s.model, some_profile(), 64, 1, &host, &there, &s.error) == OTR_INVALID_ARGUMENT &&
          strstr(s.error.message, "no device"));
  CHECK_C(host == 0 && there == 0);
  CHECK_C(otr_model_draft_device_bytes(s.model, profile, 64, 1, &host, NULL, &s.error) == OTR_INVALID_ARGUMENT);
  CHECK_C(otr_model_draft_device_bytes(s.model, profile, 0, 1, &host, &there, &s.error) == OTR_INVALID_ARGUMENT);
  NEED_C(otr_model_draft_device_bytes(s.model, profile, 64, 1, &host, &there, &s.error) == OTR_OK);
  CHECK_C(host > 0 && there > 0);
  otr_plan_options_init(&options, sizeof options);
  CHECK_C(options.draft_device_bytes == 0);
  options.prompt_tokens = options.new_tokens = 32;
  options.host_budget_bytes = 0;
  options.draft_tokens = 4;
  options.draft_bytes = host;
  options.draft_device_bytes = there;
  otr_session_close(&s.session);
  otr_engine_close(&s.engine);
  otr_plan_close(&s.plan);
  CHECK_C(otr_plan_make(s.model, some_profile(), &options, &s.plan, &s.error) == OTR_INVALID_ARGUMENT &&
          strstr(s.error.message, "no device"));
  options.device_budget_bytes = there - 1;
  CHECK_C(otr_plan_make(s.model, profile, &options, &s.plan, &s.error) == OTR_BUDGET && s.error.needed_bytes == there &&
          s.error.given_bytes == there - 1);
  options.device_budget_bytes = there;
  NEED_C(otr_plan_make(s.model, profile, &options, &s.plan, &s.error) == OTR_OK);
  CHECK_C(otr_plan_get_summary(s.plan, &summary, &s.error) == OTR_OK);
  CHECK_C(summary.draft_device_bytes == there && summary.device_planned_bytes == there && summary.device_resident_tensors == 0);
  NEED_C(otr_plan_forecast_draft(s.plan, s.model, s.model, profile, NULL, 0, &forecast, &s.error) == OTR_OK);
  CHECK_C(forecast.draft_step_ms > 0 && forecast.plain_tokens_per_s > 0);
  CHECK_C(forecast.draft_read_ms > 0 && forecast.draft_read_ms < forecast.draft_step_ms);
  CHECK_C(otr_plan_forecast_draft(s.plan, s.model, s.model, some_profile(), NULL, 0, &forecast, &s.error) == OTR_INVALID_ARGUMENT);
  otr_engine_options_init(&engine_options, sizeof engine_options);
  engine_options.device = "emulated:memory=64MiB,link=50GB/s,latency=0us,threads=4";
  NEED_C(otr_engine_open(s.model, s.plan, &engine_options, &s.engine, &s.error) == OTR_OK);
  NEED_C(otr_session_open(s.engine, NULL, &s.session, &s.error) == OTR_OK);
  otr_generate_options_init(&generate, sizeof generate);
  generate.max_tokens = 20;
  generate.ignore_eos = 1;
  generate.draft = OTR_DRAFT_MODEL;
  generate.draft_path = tiny_model_path();
  generate.draft_tokens = 4;
  NEED_C(otr_session_generate(s.session, prompt, 5, &generate, &result, &s.error) == OTR_OK);
  /* It drafts for itself, so that all is right. */
  CHECK_C(result.drafted_tokens > 0 && result.accepted_tokens == result.drafted_tokens);
  CHECK_C(result.chain_drafted_at[0] > 0 && result.chain_drafted_at[0] >= result.chain_drafted_at[3]);
  CHECK_C(memcmp(result.chain_drafted_at, result.chain_accepted_at, sizeof result.chain_drafted_at) == 0);
  CHECK_C(otr_engine_get_memory(s.engine, OTR_TIER_DEVICE, &memory, &s.error) == OTR_OK && memory.draft_bytes == there &&
          memory.peak_bytes == there);
  otr_profile_close(&profile);
  stack_close(&s);
}

/* The text of one session under the plan, and its engine's draft bytes. */
static size_t text_under(const otr_model* model, const otr_plan* plan, int32_t draft, int32_t* tokens, uint64_t* draft_bytes) {
  static const int32_t prompt[] = {3, 14, 15, 92, 65};
  otr_error error = {sizeof error};
  otr_memory_report memory = {sizeof memory};
  otr_generate_result result = {sizeof result};
  otr_generate_options options;
  otr_engine* engine = NULL;
  otr_session* session = NULL;
  size_t count = 0;
  otr_generate_options_init(&options, sizeof options);
  options.max_tokens = 12;
  options.ignore_eos = 1;
  options.draft = draft;
  CHECK_C(otr_engine_open(model, plan, NULL, &engine, &error) == OTR_OK);
  CHECK_C(otr_session_open(engine, NULL, &session, &error) == OTR_OK);
  CHECK_C(otr_session_generate(session, prompt, 5, &options, &result, &error) == OTR_OK && result.draft == draft);
  CHECK_C(otr_session_generated_tokens(session, tokens, 12, &count, &error) == OTR_OK);
  CHECK_C(otr_engine_get_memory(engine, OTR_TIER_HOST, &memory, &error) == OTR_OK);
  *draft_bytes = memory.draft_bytes;
  otr_session_close(&session);
  otr_engine_close(&engine);
  return count;
}

void copies_of_what_streams_draft(void) {
  otr_error error = {sizeof error};
  otr_plan_summary summary = {sizeof summary};
  otr_plan_options options;
  otr_model* model = NULL;
  otr_plan* plan = NULL;
  int32_t drafted[12], plain[12];
  uint64_t draft_bytes = 0;
  NEED_C(otr_model_open(dense_model_path(), NULL, &model, &error) == OTR_OK);
  otr_plan_options_init(&options, sizeof options);
  CHECK_C(options.stand_ins == OTR_STAND_INS_NONE);
  options.prompt_tokens = options.new_tokens = 32;
  options.draft_tokens = 4;
  options.stand_ins = 6;
  CHECK_C(otr_plan_make(model, some_profile(), &options, &plan, &error) == OTR_INVALID_ARGUMENT && strstr(error.message, "stand_ins"));
  options.stand_ins = OTR_STAND_INS_THREE_BITS;
  options.host_budget_bytes = 1;
  CHECK_C(otr_plan_make(model, some_profile(), &options, &plan, &error) == OTR_BUDGET && strstr(error.message, "3-bit copies"));
  options.host_budget_bytes = error.needed_bytes;
  NEED_C(otr_plan_make(model, some_profile(), &options, &plan, &error) == OTR_OK);
  CHECK_C(otr_plan_get_summary(plan, &summary, &error) == OTR_OK);
  CHECK_C(summary.self_draft_bits == 3 && summary.draft_bytes > 0 && summary.draft_tokens_per_pass > 1 &&
          summary.predicted_draft_tokens_per_s > 0);
  CHECK_C(text_under(model, plan, OTR_DRAFT_SELF, drafted, &draft_bytes) == 12 && draft_bytes == summary.draft_bytes);
  CHECK_C(text_under(model, plan, OTR_DRAFT_NONE, plain, &draft_bytes) == 12);
  CHECK_C(memcmp(drafted, plain, sizeof plain) == 0);
  otr_plan_close(&plan);
  otr_model_close(&model);
}

static otr_status forecast_of(const stack* s, const double* accepted, size_t count, otr_draft_forecast* forecast, otr_error* error) {
  return otr_plan_forecast_draft(s->plan, s->model, s->model, some_profile(), accepted, count, forecast, error);
}

void a_draft_is_forecast(void) {
  static const double right[] = {1, 1, 1, 1}, never[] = {0}, no_chance[] = {0.5, 1.5};
  double many[OTR_MOST_DRAFT_TOKENS + 1] = {1};
  otr_draft_forecast forecast = {sizeof forecast}, again = {sizeof again};
  otr_plan_options options;
  otr_model* other = NULL;
  uint64_t bytes = 0;
  stack s;
  if (!stack_open(&s, 2, 64)) return;
  NEED_C(otr_model_draft_batch_bytes(s.model, 64, 1, 2, &bytes, &s.error) == OTR_OK);
  otr_plan_options_init(&options, sizeof options);
  options.prompt_tokens = options.new_tokens = 32;
  options.batch = 2;
  options.host_budget_bytes = 0;
  options.draft_tokens = 4;
  options.draft_bytes = bytes;
  otr_plan_close(&s.plan);
  NEED_C(otr_plan_make(s.model, some_profile(), &options, &s.plan, &s.error) == OTR_OK);
  /* What is never right takes time and gives nothing. */
  NEED_C(forecast_of(&s, never, 1, &forecast, &s.error) == OTR_OK);
  CHECK_C(forecast.tokens == 0 && forecast.groups == 1 && forecast.tokens_per_pass == 1);
  CHECK_C(forecast.plain_tokens_per_s > 0 && forecast.tokens_per_s == forecast.plain_tokens_per_s && forecast.draft_step_ms > 0);
  NEED_C(forecast_of(&s, right, 4, &forecast, &s.error) == OTR_OK);
  CHECK_C(forecast.tokens <= 4 && fabs(forecast.tokens_per_pass - (forecast.tokens + 1.0)) < 1e-9);
  CHECK_C(forecast.tokens_per_s >= forecast.plain_tokens_per_s);
  NEED_C(forecast_of(&s, right, 4, &again, &s.error) == OTR_OK);
  CHECK_C(memcmp(&forecast, &again, sizeof forecast) == 0);
  CHECK_C(forecast_of(&s, NULL, 1, &again, &s.error) == OTR_INVALID_ARGUMENT && strstr(s.error.message, "accepted"));
  NEED_C(forecast_of(&s, NULL, 0, &again, &s.error) == OTR_OK);
  CHECK_C(again.tokens_per_s <= forecast.tokens_per_s && again.draft_step_ms == forecast.draft_step_ms);
  CHECK_C(forecast_of(&s, no_chance, 2, &again, &s.error) == OTR_INVALID_ARGUMENT && strstr(s.error.message, "accepted[1]"));
  CHECK_C(forecast_of(&s, many, OTR_MOST_DRAFT_TOKENS + 1, &again, &s.error) == OTR_INVALID_ARGUMENT && strstr(s.error.message, "17"));
  NEED_C(otr_model_open(other_model_path(), NULL, &other, &s.error) == OTR_OK);
  CHECK_C(otr_plan_forecast_draft(s.plan, other, s.model, some_profile(), NULL, 0, &again, &s.error) == OTR_INVALID_ARGUMENT);
  CHECK_C(otr_plan_forecast_draft(s.plan, s.model, s.model, NULL, NULL, 0, &again, &s.error) == OTR_OK); /* measured */
  otr_model_close(&other);
  stack_close(&s);
}

/* Puts 1000 in place of the rate of that name in a profile's JSON; whether it is there. */
static int slow_down(char* json, const char* name) {
  char* rate = strstr(json, name);
  char* per_s = rate == NULL ? NULL : strstr(rate, "\"per_s\"");
  char* begin = per_s == NULL ? NULL : strchr(per_s, ':');
  const size_t length = begin == NULL ? 0 : strcspn(++begin, ",}");
  if (length < 3) return 0;
  memset(begin, ' ', length);
  memcpy(begin, "1e3", 3);
  return 1;
}

/* some_profile() with a disk of a kilobyte a second, whatever else is done, for the caller to close; NULL after a failed check. */
static otr_profile* slow_disk_profile(void) {
  otr_profile* profile = NULL;
  char* json = profile_json(some_profile());
  const int is_slow = json != NULL && slow_down(json, "\"disk_bytes\"") && slow_down(json, "\"disk_bytes_busy\"");
  CHECK_C(is_slow);
  if (is_slow) CHECK_C(otr_profile_from_json(json, strlen(json), &profile, NULL) == OTR_OK);
  free(json);
  return profile;
}

void a_draft_pays_where_weights_stream(void) {
  static const double right[] = {1, 1, 1, 1};
  otr_draft_forecast forecast = {sizeof forecast};
  otr_plan_summary summary = {sizeof summary};
  otr_plan_options options;
  otr_profile* profile = slow_disk_profile();
  uint64_t bytes = 0;
  stack s;
  NEED_C(profile != NULL);
  if (!stack_open_path(&s, dense_model_path(), 1, 64)) return;
  NEED_C(otr_model_draft_bytes(s.model, 64, 1, &bytes, &s.error) == OTR_OK);
  otr_plan_options_init(&options, sizeof options);
  options.prompt_tokens = options.new_tokens = 32;
  options.host_budget_bytes = 1;
  options.draft_tokens = 4;
  options.draft_bytes = bytes;
  otr_plan_close(&s.plan);
  CHECK_C(otr_plan_make(s.model, profile, &options, &s.plan, &s.error) == OTR_BUDGET);
  options.host_budget_bytes = s.error.needed_bytes;
  /* The least that has steps of five tokens, so that weights are left to stream. */
  while (summary.step_tokens < 5) {
    otr_plan_close(&s.plan);
    NEED_C(otr_plan_make(s.model, profile, &options, &s.plan, &s.error) == OTR_OK);
    NEED_C(otr_plan_get_summary(s.plan, &summary, &s.error) == OTR_OK);
    options.host_budget_bytes += 4096;
  }
  NEED_C(summary.streamed_bytes_per_token > 4096);
  NEED_C(otr_plan_forecast_draft(s.plan, s.model, s.model, profile, right, 4, &forecast, &s.error) == OTR_OK);
  CHECK_C(forecast.tokens == 4 && forecast.tokens_per_pass == 5);
  /* A pass waits for the disk, however many tokens it has. */
  CHECK_C(fabs(forecast.tokens_per_s / forecast.plain_tokens_per_s - 5) < 0.05);
  otr_profile_close(&profile);
  stack_close(&s);
}

void what_was_generated_becomes_a_page(void) {
  static const int32_t prompt[] = {'a', 'b', 'a', 'b', 'a', 'b'};
  static const char* const kThere[] = {"<!doctype html>", "20 tokens", "reading 6 tokens of prompts", "accepted", "ngram", "</html>\n"};
  otr_generate_options options;
  otr_plan_options plan_options;
  size_t bytes = 0, again = 0, i;
  char* page;
  stack s;
  if (!stack_open(&s, 1, 64)) return;
  CHECK_C(otr_session_generated_to_html(s.session, NULL, 0, &bytes, &s.error) == OTR_OK && bytes > 500); /* of nothing yet */
  otr_plan_options_init(&plan_options, sizeof plan_options);
  plan_options.prompt_tokens = plan_options.new_tokens = 32;
  plan_options.host_budget_bytes = 0;
  plan_options.draft_tokens = 4;
  otr_session_close(&s.session);
  otr_engine_close(&s.engine);
  otr_plan_close(&s.plan);
  NEED_C(otr_plan_make(s.model, some_profile(), &plan_options, &s.plan, &s.error) == OTR_OK);
  NEED_C(otr_engine_open(s.model, s.plan, NULL, &s.engine, &s.error) == OTR_OK);
  NEED_C(otr_session_open(s.engine, NULL, &s.session, &s.error) == OTR_OK);
  otr_generate_options_init(&options, sizeof options);
  options.max_tokens = 20;
  options.ignore_eos = 1;
  options.draft = OTR_DRAFT_NGRAM;
  options.draft_tokens = 4;
  NEED_C(otr_session_generate(s.session, prompt, 6, &options, NULL, &s.error) == OTR_OK);
  NEED_C(otr_session_generated_to_html(s.session, NULL, 0, &bytes, &s.error) == OTR_OK);
  NEED_C((page = malloc(bytes + 1)) != NULL);
  CHECK_C(otr_session_generated_to_html(s.session, page, bytes, &again, &s.error) == OTR_INVALID_ARGUMENT && again == bytes);
  NEED_C(otr_session_generated_to_html(s.session, page, bytes + 1, &again, &s.error) == OTR_OK && again == bytes);
  for (i = 0; i < sizeof kThere / sizeof kThere[0]; ++i) check_that(strstr(page, kThere[i]) != NULL, kThere[i], __FILE__, __LINE__);
  free(page);
  stack_close(&s);
}
