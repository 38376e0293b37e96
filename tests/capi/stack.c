/* Model, plan, engine and session of the tiny model, opened and closed together. */
#include "tests/capi/stack.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/capi/check.h"

const otr_profile* some_profile(void) {
  static otr_profile* profile = NULL;
  if (profile == NULL) {
    otr_profile_options options;
    otr_profile_options_init(&options, sizeof options);
    options.threads = 1;
    options.seconds_per_lane = 0.001;
    options.disk_path = tiny_model_path();
    CHECK_C(otr_profile_measure(&options, &profile, NULL) == OTR_OK);
  }
  return profile;
}

char* profile_json(const otr_profile* profile) {
  size_t bytes = 0;
  char* text;
  if (otr_profile_to_json(profile, NULL, 0, &bytes, NULL) != OTR_OK) return NULL;
  text = malloc(bytes + 1);
  if (text != NULL && otr_profile_to_json(profile, text, bytes + 1, &bytes, NULL) == OTR_OK) return text;
  free(text);
  return NULL;
}

otr_profile* device_profile(void) {
  static const char kDevice[] =
      ",\"device\":\"a fast "
      "one\",\"device_memory_bytes\":1073741824,\"device_step_overhead_us\":0,\"link_latency_us\":0,\"handoff_us\":1,\"device_threads\":4";
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

int stack_open(stack* s, uint32_t batch, uint32_t context_tokens) { return stack_open_path(s, tiny_model_path(), batch, context_tokens); }

int stack_open_path(stack* s, const char* path, uint32_t batch, uint32_t context_tokens) {
  otr_plan_options options;
  memset(s, 0, sizeof *s);
  s->error.struct_size = sizeof s->error;
  otr_plan_options_init(&options, sizeof options);
  options.prompt_tokens = context_tokens / 2;
  options.new_tokens = context_tokens - options.prompt_tokens;
  options.batch = batch;
  options.host_budget_bytes = 0;
  const int opened = otr_model_open(path, NULL, &s->model, &s->error) == OTR_OK &&
                     otr_plan_make(s->model, some_profile(), &options, &s->plan, &s->error) == OTR_OK &&
                     otr_engine_open(s->model, s->plan, NULL, &s->engine, &s->error) == OTR_OK &&
                     otr_session_open(s->engine, NULL, &s->session, &s->error) == OTR_OK;
  check_that(opened, s->error.message, __FILE__, __LINE__);
  if (!opened) stack_close(s);
  return opened;
}

void stack_close(stack* s) {
  otr_session_close(&s->session);
  otr_engine_close(&s->engine);
  otr_plan_close(&s->plan);
  otr_model_close(&s->model);
}
