/* Model, plan, engine and session of the tiny model, opened and closed together. */
#include "tests/capi/stack.h"

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
