/* Profiles, plans and engines. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/capi/check.h"
#include "tests/capi/stack.h"

typedef otr_status (*profile_text)(const otr_profile*, char*, size_t, size_t*, otr_error*);
typedef otr_status (*plan_text)(const otr_plan*, char*, size_t, size_t*, otr_error*);

static char* profile_json(const otr_profile* profile) {
  const profile_text write = otr_profile_to_json;
  size_t bytes = 0;
  char* text;
  if (write(profile, NULL, 0, &bytes, NULL) != OTR_OK) return NULL;
  text = malloc(bytes + 1);
  if (text != NULL && write(profile, text, bytes + 1, &bytes, NULL) == OTR_OK) return text;
  free(text);
  return NULL;
}

static char* written_by(plan_text write, const otr_plan* plan) {
  size_t bytes = 0;
  char* text;
  if (write(plan, NULL, 0, &bytes, NULL) != OTR_OK) return NULL;
  text = malloc(bytes + 1);
  if (text != NULL && write(plan, text, bytes + 1, &bytes, NULL) == OTR_OK && strlen(text) == bytes) return text;
  free(text);
  return NULL;
}

void a_profile_survives_json(void) {
  otr_error error = {sizeof error};
  otr_profile_options options;
  otr_profile *profile = NULL, *again = NULL;
  char *json, *json_again;
  otr_profile_options_init(&options, sizeof options);
  CHECK_C(options.threads == 0 && options.disk_path == NULL && options.seconds_per_lane == 0.1);
  options.seconds_per_lane = 0.001;
  NEED_C(otr_profile_measure(&options, &profile, &error) == OTR_OK);
  json = profile_json(profile);
  NEED_C(json != NULL);
  NEED_C(otr_profile_from_json(json, strlen(json), &again, &error) == OTR_OK);
  json_again = profile_json(again);
  CHECK_C(json_again != NULL && strcmp(json, json_again) == 0);
  free(json);
  free(json_again);
  otr_profile_close(&again);
  otr_profile_close(&profile);

  CHECK_C(otr_profile_from_json("{", 1, &profile, &error) == OTR_INVALID_ARGUMENT && profile == NULL);
  CHECK_C(otr_profile_from_json("{}", 2, &profile, &error) == OTR_INVALID_ARGUMENT && error.message[0] != '\0');
  CHECK_C(otr_profile_from_json(NULL, 0, &profile, &error) == OTR_INVALID_ARGUMENT);
  options.disk_path = "/no/such/file";
  CHECK_C(otr_profile_measure(&options, &profile, &error) == OTR_NOT_FOUND && profile == NULL);
  options.disk_path = NULL;
  options.seconds_per_lane = NAN;
  CHECK_C(otr_profile_measure(&options, &profile, &error) == OTR_INVALID_ARGUMENT);
  options.seconds_per_lane = -1;
  CHECK_C(otr_profile_measure(&options, &profile, &error) == OTR_INVALID_ARGUMENT);
}

void a_plan_survives_json(void) {
  otr_plan_summary summary = {sizeof summary};
  otr_engine* engine = NULL;
  otr_plan* again = NULL;
  char *json, *json_again, *text;
  stack s;
  if (!stack_open(&s, 2, 64)) return;
  NEED_C(otr_plan_get_summary(s.plan, &summary, &s.error) == OTR_OK);
  CHECK_C(summary.batch == 2 && summary.context_tokens == 64 && summary.logit_rows == 2 && summary.threads == 1);
  CHECK_C(summary.host_budget_bytes == 0 && summary.host_planned_bytes >= summary.host_minimum_bytes && summary.host_minimum_bytes > 0);
  CHECK_C(summary.streamed_tensors == 0 && summary.streamed_bytes_per_token == 0 && summary.resident_tensors > 0);
  CHECK_C(summary.predicted_decode_tokens_per_s > 0 && summary.predicted_prefill_ms > 0);
  CHECK_C(strcmp(summary.binding_lane, "host") == 0);

  json = written_by(otr_plan_to_json, s.plan);
  text = written_by(otr_plan_to_text, s.plan);
  CHECK_C(text != NULL && strchr(text, '\n') != NULL);
  NEED_C(json != NULL);
  NEED_C(otr_plan_from_json(json, strlen(json), &again, &s.error) == OTR_OK);
  json_again = written_by(otr_plan_to_json, again);
  CHECK_C(json_again != NULL && strcmp(json, json_again) == 0);
  CHECK_C(otr_engine_open(s.model, again, NULL, &engine, &s.error) == OTR_OK);
  otr_engine_close(&engine);
  otr_plan_close(&again);
  CHECK_C(otr_plan_from_json(json, strlen(json) / 2, &again, &s.error) == OTR_INVALID_ARGUMENT && again == NULL);
  CHECK_C(otr_plan_from_json("{}", 2, &again, &s.error) == OTR_INVALID_ARGUMENT);
  free(json);
  free(json_again);
  free(text);
  stack_close(&s);
}

/* A plan of a device computes what the host alone does, and says what went over the link. */
static void runs_on_a_device_as_without(stack* s, const otr_plan* plan) {
  static const int32_t kPrompt[] = {256, 't', 'h', 'e', ' ', 'e', 'n', 'd'};
  otr_engine_options options;
  otr_stream_report streamed = {sizeof streamed};
  otr_memory_report memory = {sizeof memory};
  otr_engine* engine = NULL;
  otr_session* session = NULL;
  const float *logits = NULL, *alone = NULL;
  size_t count = 0, count_alone = 0;
  otr_engine_options_init(&options, sizeof options);
  CHECK_C(otr_engine_open(s->model, plan, &options, &engine, &s->error) == OTR_INVALID_ARGUMENT);
  options.device = "emulated:memory=256MiB,link=50GB/s,latency=0us,threads=4";
  NEED_C(otr_engine_open(s->model, plan, &options, &engine, &s->error) == OTR_OK);
  NEED_C(otr_session_open(engine, NULL, &session, &s->error) == OTR_OK);
  NEED_C(otr_session_prefill(session, kPrompt, 8, NULL, &s->error) == OTR_OK);
  NEED_C(otr_session_prefill(s->session, kPrompt, 8, NULL, &s->error) == OTR_OK);
  NEED_C(otr_session_get_logits(session, &logits, &count, &s->error) == OTR_OK);
  NEED_C(otr_session_get_logits(s->session, &alone, &count_alone, &s->error) == OTR_OK);
  CHECK_C(count == count_alone && memcmp(logits, alone, count * sizeof *logits) == 0);
  NEED_C(otr_engine_get_streamed(engine, &streamed, &s->error) == OTR_OK);
  CHECK_C(streamed.h2d_bytes > 0 && streamed.d2h_bytes > 0);
  NEED_C(otr_engine_get_memory(engine, OTR_TIER_DEVICE, &memory, &s->error) == OTR_OK);
  CHECK_C(memory.planned_bytes > 0 && memory.peak_bytes == memory.planned_bytes);
  otr_session_close(&session);
  otr_engine_close(&engine);
}

/* some_profile() with a device of 1 GiB that is faster at everything; NULL after a failed check. */
static otr_profile* device_profile(void) {
  static const char kDevice[] =
      ",\"device\":\"a fast "
      "one\",\"device_memory_bytes\":1073741824,\"device_step_overhead_us\":0,\"link_latency_us\":0,\"device_threads\":4";
  static const char* const kRates[] = {
      "h2d_bytes", "d2h_bytes", "device_stream_bytes", "device_int8_ops", "device_small_batch_ops", "device_attention_flops"};
  otr_profile* profile = NULL;
  char *json = profile_json(some_profile()), *with_device = json == NULL ? NULL : malloc(strlen(json) + 1000);
  size_t i;
  CHECK_C(with_device != NULL && strrchr(json, '}') != NULL);
  if (with_device == NULL || strrchr(json, '}') == NULL) return NULL;
  *strrchr(json, '}') = '\0';
  strcpy(with_device, json);
  strcat(with_device, kDevice);
  for (i = 0; i < sizeof kRates / sizeof kRates[0]; ++i) {
    sprintf(with_device + strlen(with_device), ",\"%s\":{\"per_s\":1e15,\"spread\":0,\"how\":\"by hand\"}", kRates[i]);
  }
  strcat(with_device, "}");
  CHECK_C(otr_profile_from_json(with_device, strlen(with_device), &profile, NULL) == OTR_OK);
  free(with_device);
  free(json);
  return profile;
}

void a_profile_with_a_device_makes_plans_for_it(void) {
  otr_plan_summary summary = {sizeof summary};
  otr_plan_options options;
  otr_profile* profile = device_profile();
  otr_plan* plan = NULL;
  stack s;
  NEED_C(profile != NULL);
  if (!stack_open(&s, 1, 64)) return;
  otr_plan_options_init(&options, sizeof options);
  options.prompt_tokens = options.new_tokens = 32;
  options.host_budget_bytes = 0;
  NEED_C(otr_plan_make(s.model, profile, &options, &plan, &s.error) == OTR_OK);
  NEED_C(otr_plan_get_summary(plan, &summary, &s.error) == OTR_OK);
  CHECK_C(summary.device_budget_bytes == 1073741824 / 10 * 9);
  CHECK_C(summary.device_planned_bytes > 0 && summary.device_planned_bytes <= summary.device_budget_bytes &&
          summary.device_minimum_bytes == 0);
  CHECK_C(summary.device_resident_tensors > 0 && summary.device_resident_tensors <= summary.resident_tensors);
  /* A head that streams there is in host memory too, where its rows are looked up: it may pay. */
  CHECK_C(summary.device_streamed_tensors <= summary.streamed_tensors && summary.streamed_bytes_per_token < 4096);
  CHECK_C((summary.device_streamed_tensors > 0) == (summary.device_slots > 0) &&
          (summary.device_slots > 0) == (summary.device_from_tokens > 0));
  CHECK_C((summary.device_bytes_per_token > 0) == (summary.device_from_tokens == 1));
  CHECK_C(summary.device_slot_bytes % 4096 == 0);
  runs_on_a_device_as_without(&s, plan);
  otr_plan_close(&plan);
  options.device_budget_bytes = 4096;
  NEED_C(otr_plan_make(s.model, profile, &options, &plan, &s.error) == OTR_OK);
  NEED_C(otr_plan_get_summary(plan, &summary, &s.error) == OTR_OK);
  CHECK_C(summary.device_budget_bytes == 4096 && summary.device_planned_bytes == 0 && summary.device_resident_tensors == 0);
  otr_plan_close(&plan);
  otr_profile_close(&profile);
  stack_close(&s);
}

void a_draft_model_computes_on_the_device(void) {
  static const int32_t prompt[] = {3, 14, 15, 92, 65};
  otr_plan_summary summary = {sizeof summary};
  otr_memory_report memory = {sizeof memory};
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
  CHECK_C(otr_engine_get_memory(s.engine, OTR_TIER_DEVICE, &memory, &s.error) == OTR_OK && memory.draft_bytes == there &&
          memory.peak_bytes == there);
  otr_profile_close(&profile);
  stack_close(&s);
}

void a_plan_becomes_a_picture(void) {
  const struct {
    otr_status (*write)(const otr_plan*, const otr_model*, const otr_profile*, char*, size_t, size_t*, otr_error*);
    const char *begin, *end;
  } kinds[] = {{otr_plan_to_svg, "<svg ", "</svg>\n"}, {otr_plan_to_html, "<!doctype html>", "</html>\n"}};
  otr_model* other = NULL;
  size_t i;
  stack s;
  if (!stack_open(&s, 1, 64)) return;
  NEED_C(otr_model_open(other_model_path(), NULL, &other, &s.error) == OTR_OK);
  for (i = 0; i < 2; ++i) {
    size_t bytes = 0, again = 0;
    char* text = NULL;
    CHECK_C(kinds[i].write(s.plan, other, some_profile(), NULL, 0, &bytes, &s.error) == OTR_INVALID_ARGUMENT); /* not this model's plan */
    NEED_C(kinds[i].write(s.plan, s.model, some_profile(), NULL, 0, &bytes, &s.error) == OTR_OK && bytes > 1000);
    NEED_C((text = malloc(bytes + 1)) != NULL);
    CHECK_C(kinds[i].write(s.plan, s.model, some_profile(), text, bytes + 1, &again, &s.error) == OTR_OK && again == bytes);
    CHECK_C(strncmp(text, kinds[i].begin, strlen(kinds[i].begin)) == 0);
    CHECK_C(strcmp(text + bytes - strlen(kinds[i].end), kinds[i].end) == 0);
    free(text);
    CHECK_C(kinds[i].write(s.plan, s.model, NULL, NULL, 0, &bytes, &s.error) == OTR_OK); /* measured */
  }
  otr_model_close(&other);
  stack_close(&s);
}

void a_budget_error_says_what_would_do(void) {
  otr_error error = {sizeof error};
  otr_plan_summary summary = {sizeof summary};
  otr_plan_options options;
  otr_model* model = NULL;
  otr_plan* plan = NULL;
  uint64_t minimum;
  NEED_C(otr_model_open(other_model_path(), NULL, &model, &error) == OTR_OK);
  otr_plan_options_init(&options, sizeof options);
  CHECK_C(options.host_budget_bytes == OTR_BUDGET_DEFAULT && options.prompt_tokens == 512 && options.new_tokens == 128 &&
          options.batch == 1);
  options.prompt_tokens = options.new_tokens = 16;
  options.host_budget_bytes = 1;
  NEED_C(otr_plan_make(model, some_profile(), &options, &plan, &error) == OTR_BUDGET);
  CHECK_C(plan == NULL && error.status == OTR_BUDGET && error.given_bytes == 1 && error.needed_bytes > 1);
  minimum = error.needed_bytes;

  options.host_budget_bytes = minimum - 1;
  CHECK_C(otr_plan_make(model, some_profile(), &options, &plan, &error) == OTR_BUDGET && error.needed_bytes == minimum);
  options.host_budget_bytes = minimum;
  NEED_C(otr_plan_make(model, some_profile(), &options, &plan, &error) == OTR_OK);
  CHECK_C(error.needed_bytes == 0 && error.given_bytes == 0);
  CHECK_C(otr_plan_get_summary(plan, &summary, &error) == OTR_OK);
  CHECK_C(summary.host_planned_bytes <= minimum && summary.host_minimum_bytes == minimum);
  CHECK_C(summary.streamed_tensors > 0 && summary.streamed_bytes_per_token > 0);
  otr_plan_close(&plan);
  options.kv_type = OTR_KV_F32;
  CHECK_C(otr_plan_make(model, some_profile(), &options, &plan, &error) == OTR_BUDGET && error.needed_bytes > minimum);
  options.host_budget_bytes = error.needed_bytes;
  NEED_C(otr_plan_make(model, some_profile(), &options, &plan, &error) == OTR_OK);
  CHECK_C(otr_plan_get_summary(plan, &summary, &error) == OTR_OK && summary.kv_type == OTR_KV_F32);
  otr_plan_close(&plan);
  options.kv_type = OTR_KV_Q8_0; /* this model's heads have 16 elements */
  CHECK_C(otr_plan_make(model, some_profile(), &options, &plan, &error) == OTR_INVALID_ARGUMENT && strstr(error.message, "multiple of 32"));
  options.kv_type = OTR_KV_F16;

  options.host_budget_bytes = 0;
  options.prompt_tokens = options.new_tokens = 0;
  CHECK_C(otr_plan_make(model, some_profile(), &options, &plan, &error) == OTR_INVALID_ARGUMENT);
  options.prompt_tokens = options.new_tokens = 200; /* the model was made for 256 */
  CHECK_C(otr_plan_make(model, some_profile(), &options, &plan, &error) == OTR_INVALID_ARGUMENT);
  options.prompt_tokens = options.new_tokens = 16;
  options.kv_type = 3;
  CHECK_C(otr_plan_make(model, some_profile(), &options, &plan, &error) == OTR_INVALID_ARGUMENT);
  otr_model_close(&model);
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

void a_plan_without_a_profile_measures_once(void) {
  otr_error error = {sizeof error};
  otr_plan_options options;
  otr_model* model = NULL;
  otr_plan *first = NULL, *second = NULL;
  char *first_json, *second_json;
  NEED_C(otr_model_open(tiny_model_path(), NULL, &model, &error) == OTR_OK);
  otr_plan_options_init(&options, sizeof options);
  options.prompt_tokens = options.new_tokens = 32;
  options.host_budget_bytes = 0;
  options.threads = 1;
  NEED_C(otr_plan_make(model, NULL, &options, &first, &error) == OTR_OK);
  NEED_C(otr_plan_make(model, NULL, &options, &second, &error) == OTR_OK);
  first_json = written_by(otr_plan_to_json, first);
  second_json = written_by(otr_plan_to_json, second);
  /* Two measurements would never agree to the last digit. */
  CHECK_C(first_json != NULL && second_json != NULL && strcmp(first_json, second_json) == 0);
  free(first_json);
  free(second_json);
  otr_plan_close(&first);
  otr_plan_close(&second);
  otr_model_close(&model);
}

typedef struct progress_log {
  int calls, stop_at;
  double last;
} progress_log;

static int32_t log_progress(void* user, double share) {
  progress_log* log = user;
  CHECK_C(share >= log->last && share <= 1);
  log->last = share;
  return ++log->calls == log->stop_at;
}

void an_engine_loads_and_reports(void) {
  progress_log log = {0, -1, 0};
  otr_memory_report memory = {sizeof memory};
  otr_stream_report streamed = {sizeof streamed};
  otr_engine_options options;
  otr_engine* engine = NULL;
  stack s;
  if (!stack_open(&s, 1, 64)) return;
  otr_engine_options_init(&options, sizeof options);
  CHECK_C(options.numerics == OTR_NUMERICS_FAST && options.device == NULL);
  options.numerics = OTR_NUMERICS_FLOAT32;
  options.device = "cpu";
  options.progress = log_progress;
  options.user = &log;
  NEED_C(otr_engine_open(s.model, s.plan, &options, &engine, &s.error) == OTR_OK);
  CHECK_C(log.calls > 0 && log.last == 1);
  otr_engine_close(&engine);

  NEED_C(otr_engine_get_memory(s.engine, OTR_TIER_HOST, &memory, &s.error) == OTR_OK);
  CHECK_C(memory.tier == OTR_TIER_HOST && memory.struct_size == sizeof memory);
  CHECK_C(memory.weights_resident_bytes > 0 && memory.kv_cache_bytes > 0 && memory.activations_bytes > 0);
  CHECK_C(memory.current_bytes == memory.weights_resident_bytes + memory.stream_slots_bytes + memory.kv_cache_bytes +
                                      memory.activations_bytes + memory.draft_bytes + memory.branches_bytes + memory.other_bytes +
                                      memory.experts_bytes);
  CHECK_C(memory.current_bytes <= memory.peak_bytes && memory.peak_bytes <= memory.planned_bytes);
  CHECK_C(otr_engine_get_memory(s.engine, OTR_TIER_DEVICE, &memory, &s.error) == OTR_OK && memory.peak_bytes == 0);
  CHECK_C(otr_engine_get_memory(s.engine, OTR_TIER_DISK, &memory, &s.error) == OTR_INVALID_ARGUMENT);
  CHECK_C(otr_engine_get_streamed(s.engine, &streamed, &s.error) == OTR_OK);
  CHECK_C(streamed.disk_bytes == 0 && streamed.h2d_bytes == 0 && streamed.d2h_bytes == 0);
  stack_close(&s);
}

void an_engine_keeps_a_trace(void) {
  const char* path = scratch_path("trace.json");
  const int32_t tokens[] = {1, 2, 3};
  otr_lane_busy busy = {sizeof busy};
  otr_engine_options options;
  otr_engine* engine = NULL;
  otr_session* session = NULL;
  char begin[60] = "";
  FILE* file = NULL;
  stack s;
  if (!stack_open(&s, 1, 64)) return;
  CHECK_C(otr_engine_write_trace(s.engine, path, &s.error) == OTR_INVALID_ARGUMENT);
  CHECK_C(otr_engine_lane_busy(s.engine, UINT64_MAX, &busy, &s.error) == OTR_OK && busy.steps == 0 && busy.wall_ms == 0);

  otr_engine_options_init(&options, sizeof options);
  CHECK_C(options.trace_events == 0);
  options.trace_events = 1000;
  NEED_C(otr_engine_open(s.model, s.plan, &options, &engine, &s.error) == OTR_OK);
  NEED_C(otr_session_open(engine, NULL, &session, &s.error) == OTR_OK);
  CHECK_C(otr_session_prefill(session, tokens, 3, NULL, &s.error) == OTR_OK && otr_session_step(session, 4, &s.error) == OTR_OK);
  CHECK_C(otr_engine_lane_busy(engine, 1, &busy, &s.error) == OTR_OK && busy.struct_size == sizeof busy && busy.steps == 1);
  CHECK_C(busy.host_ms > 0 && busy.host_ms <= busy.wall_ms && busy.disk_ms == 0);
  CHECK_C(otr_engine_lane_busy(engine, UINT64_MAX, &busy, &s.error) == OTR_OK && busy.steps == 2);
  CHECK_C(otr_engine_write_trace(engine, path, &s.error) == OTR_OK);
  file = fopen(path, "rb");
  NEED_C(file != NULL);
  CHECK_C(fgets(begin, sizeof begin, file) != NULL && strncmp(begin, "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[", 39) == 0);
  fclose(file);
  CHECK_C(otr_engine_write_trace(engine, "/no/such/folder/trace.json", &s.error) == OTR_IO);
  otr_session_close(&session);
  otr_engine_close(&engine);
  options.trace_events = UINT64_MAX;
  CHECK_C(otr_engine_open(s.model, s.plan, &options, &engine, &s.error) == OTR_OUT_OF_MEMORY && engine == NULL);
  stack_close(&s);
}

void an_engine_can_be_planned_anew(void) {
  progress_log log = {0, 0, 0};
  otr_plan_options options;
  otr_engine_options engine_options;
  otr_memory_report memory = {sizeof memory};
  otr_plan* plan = NULL;
  uint64_t least;
  stack s;
  if (!stack_open(&s, 1, 64)) return;
  otr_plan_options_init(&options, sizeof options);
  options.prompt_tokens = options.new_tokens = 32;
  options.host_budget_bytes = 1;
  CHECK_C(otr_plan_make(s.model, some_profile(), &options, &plan, &s.error) == OTR_BUDGET);
  least = options.host_budget_bytes = s.error.needed_bytes;
  NEED_C(otr_plan_make(s.model, some_profile(), &options, &plan, &s.error) == OTR_OK);
  CHECK_C(otr_session_step(s.session, 3, &s.error) == OTR_OK);
  otr_engine_options_init(&engine_options, sizeof engine_options);
  engine_options.progress = log_progress;
  engine_options.user = &log;
  CHECK_C(otr_engine_replan(s.engine, plan, &engine_options, &s.error) == OTR_OK);
  CHECK_C(log.calls > 0 && log.last == 1);
  CHECK_C(otr_engine_replan(s.engine, plan, NULL, &s.error) == OTR_OK);
  CHECK_C(otr_session_step(s.session, 4, &s.error) == OTR_OK);
  CHECK_C(otr_engine_get_memory(s.engine, OTR_TIER_HOST, &memory, &s.error) == OTR_OK);
  CHECK_C(memory.budget_bytes == least && memory.current_bytes == least);
  CHECK_C(otr_engine_replan(NULL, plan, NULL, &s.error) == OTR_INVALID_ARGUMENT);
  CHECK_C(otr_engine_replan(s.engine, NULL, NULL, &s.error) == OTR_INVALID_ARGUMENT);
  otr_plan_close(&plan);
  stack_close(&s);
}

void keys_and_values_can_be_on_disk(void) {
  const int32_t tokens[] = {5, 6, 7, 8, 9};
  otr_plan_options options;
  otr_engine_options engine_options;
  otr_plan_summary summary = {sizeof summary};
  otr_stream_report streamed = {sizeof streamed};
  otr_plan* plan = NULL;
  otr_engine* engine = NULL;
  otr_session* session = NULL;
  const float *logits = NULL, *expected = NULL;
  size_t count = 0, expected_count = 0;
  stack s;
  if (!stack_open(&s, 1, 64)) return;
  CHECK_C(otr_plan_get_summary(s.plan, &summary, &s.error) == OTR_OK);
  CHECK_C(summary.kv_layers == 2 && summary.kv_spilled_layers == 0 && summary.kv_spill_bytes == 0 && summary.kv_disk_bytes_per_token == 0);
  otr_plan_options_init(&options, sizeof options);
  CHECK_C(options.kv_spilled_layers == OTR_KV_SPILL_AS_IT_PAYS && options.corrections == OTR_CORRECTIONS_AS_IT_PAYS &&
          options.max_slowdown < 0);
  options.prompt_tokens = options.new_tokens = 32;
  options.host_budget_bytes = 0;
  options.kv_spilled_layers = 3;
  CHECK_C(otr_plan_make(s.model, some_profile(), &options, &plan, &s.error) == OTR_INVALID_ARGUMENT && plan == NULL);
  options.kv_spilled_layers = 2;
  NEED_C(otr_plan_make(s.model, some_profile(), &options, &plan, &s.error) == OTR_OK);
  CHECK_C(otr_plan_get_summary(plan, &summary, &s.error) == OTR_OK);
  CHECK_C(summary.kv_spilled_layers == 2 && summary.kv_spill_bytes > 0 && summary.kv_spill_bytes % 4096 == 0 &&
          summary.kv_disk_bytes_per_token > 0);
  otr_engine_options_init(&engine_options, sizeof engine_options);
  CHECK_C(engine_options.spill_directory == NULL);
  engine_options.spill_directory = "/no/such/folder";
  CHECK_C(otr_engine_open(s.model, plan, &engine_options, &engine, &s.error) == OTR_IO && engine == NULL);
  CHECK_C(strcmp(s.error.file, "/no/such/folder") == 0);
  engine_options.spill_directory = "/var/tmp";
  NEED_C(otr_engine_open(s.model, plan, &engine_options, &engine, &s.error) == OTR_OK);
  NEED_C(otr_session_open(engine, NULL, &session, &s.error) == OTR_OK);
  CHECK_C(otr_session_prefill(session, tokens, 4, NULL, &s.error) == OTR_OK && otr_session_step(session, tokens[4], &s.error) == OTR_OK);
  CHECK_C(otr_session_prefill(s.session, tokens, 5, NULL, &s.error) == OTR_OK);
  CHECK_C(otr_session_get_logits(session, &logits, &count, &s.error) == OTR_OK);
  CHECK_C(otr_session_get_logits(s.session, &expected, &expected_count, &s.error) == OTR_OK);
  CHECK_C(count == expected_count && count > 0 && memcmp(logits, expected, count * sizeof *logits) == 0);
  CHECK_C(otr_engine_get_streamed(engine, &streamed, &s.error) == OTR_OK);
  CHECK_C(streamed.disk_bytes == 0 && streamed.kv_read_bytes > 0 && streamed.kv_written_bytes > 0);
  CHECK_C(otr_engine_replan(engine, s.plan, NULL, &s.error) == OTR_INVALID_ARGUMENT);
  otr_session_close(&session);
  CHECK_C(otr_engine_replan(engine, s.plan, NULL, &s.error) == OTR_OK);
  otr_engine_close(&engine);
  otr_plan_close(&plan);
  stack_close(&s);
}

void loading_can_be_cancelled(void) {
  progress_log log = {0, 1, 0};
  otr_engine_options options;
  otr_engine* engine = NULL;
  otr_cancel* cancel = NULL;
  stack s;
  if (!stack_open(&s, 1, 64)) return;
  otr_engine_options_init(&options, sizeof options);
  options.progress = log_progress;
  options.user = &log;
  CHECK_C(otr_engine_open(s.model, s.plan, &options, &engine, &s.error) == OTR_CANCELLED);
  CHECK_C(engine == NULL && log.calls == 1);

  NEED_C(otr_cancel_create(&cancel, &s.error) == OTR_OK);
  CHECK_C(otr_cancel_is_triggered(cancel) == 0);
  otr_cancel_trigger(cancel);
  CHECK_C(otr_cancel_is_triggered(cancel) == 1);
  options.progress = NULL;
  options.cancel = cancel;
  CHECK_C(otr_engine_open(s.model, s.plan, &options, &engine, &s.error) == OTR_CANCELLED && engine == NULL);
  otr_cancel_reset(cancel);
  CHECK_C(otr_engine_open(s.model, s.plan, &options, &engine, &s.error) == OTR_OK);
  otr_cancel_close(&cancel);
  otr_engine_close(&engine);
  stack_close(&s);
}

void an_engine_refuses_what_does_not_fit(void) {
  otr_engine_options options;
  otr_engine* engine = NULL;
  otr_model* other = NULL;
  otr_status status;
  stack s;
  if (!stack_open(&s, 1, 64)) return;
  NEED_C(otr_model_open(other_model_path(), NULL, &other, &s.error) == OTR_OK);
  CHECK_C(otr_engine_open(other, s.plan, NULL, &engine, &s.error) == OTR_INVALID_ARGUMENT && engine == NULL);
  otr_model_close(&other);

  otr_engine_options_init(&options, sizeof options);
  options.device = "no-such-device";
  status = otr_engine_open(s.model, s.plan, &options, &engine, &s.error);
  CHECK_C(status == OTR_UNAVAILABLE || status == OTR_UNSUPPORTED || status == OTR_INVALID_ARGUMENT);
  options.device = "cpu";
  options.numerics = 2;
  CHECK_C(otr_engine_open(s.model, s.plan, &options, &engine, &s.error) == OTR_INVALID_ARGUMENT && engine == NULL);
  stack_close(&s);
}

void handles_close_in_any_order(void) {
  const int32_t tokens[] = {1, 2, 3};
  stack s;
  if (!stack_open(&s, 1, 64)) return;
  otr_model_close(&s.model);
  otr_plan_close(&s.plan);
  otr_engine_close(&s.engine);
  CHECK_C(otr_session_prefill(s.session, tokens, 3, NULL, &s.error) == OTR_OK);
  stack_close(&s);
}
