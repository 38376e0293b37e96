/* Model, plan, engine and session of the tiny model, opened and closed together. */
#ifndef OUTRIGGER_TESTS_CAPI_STACK_H_
#define OUTRIGGER_TESTS_CAPI_STACK_H_

#include <outrigger/outrigger.h>

/* What most cases work with. */
typedef struct stack {
  otr_error error;
  otr_model* model;
  otr_plan* plan;
  otr_engine* engine;
  otr_session* session;
} stack;

/* A machine profile, measured once, in no time and badly. */
const otr_profile* some_profile(void);
/* Its JSON document, for the caller to free; NULL where that cannot be. */
char* profile_json(const otr_profile* profile);
/* some_profile() with a device of 1 GiB that is faster at everything, for the caller to close; NULL after a failed check. */
otr_profile* device_profile(void);
/* Opens all of it for `batch` sessions of `context_tokens`; 0 if something failed, which is then already reported. */
int stack_open(stack* s, uint32_t batch, uint32_t context_tokens);
/* The same of another model. */
int stack_open_path(stack* s, const char* path, uint32_t batch, uint32_t context_tokens);
void stack_close(stack* s);

#endif /* OUTRIGGER_TESTS_CAPI_STACK_H_ */
