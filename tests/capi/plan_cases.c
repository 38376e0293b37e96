/* Profiles and plans. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/capi/check.h"
#include "tests/capi/stack.h"

typedef otr_status (*plan_text)(const otr_plan*, char*, size_t, size_t*, otr_error*);

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
  otr_device_report device = {sizeof device};
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
  NEED_C(otr_engine_get_device(engine, &device, &s->error) == OTR_OK);
  CHECK_C(device.operations > 0 && device.launches > 0 && device.graphs == 0);
  NEED_C(otr_engine_get_memory(engine, OTR_TIER_DEVICE, &memory, &s->error) == OTR_OK);
  CHECK_C(memory.planned_bytes > 0 && memory.peak_bytes == memory.planned_bytes);
  otr_session_close(&session);
  otr_engine_close(&engine);
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
