/* Running out of memory: whichever allocation fails, the call says so, makes nothing, and everything can be closed. */
#include <string.h>

#include "tests/capi/check.h"
#include "tests/capi/stack.h"

enum { kMostAllocations = 100000 };

/* The parts of a conversation, each on what the parts before it made. They return the first failure. */

static otr_status open_model(stack* s) { return otr_model_open(tiny_model_path(), NULL, &s->model, &s->error); }

static otr_status read_and_write_text(stack* s) {
  const otr_chat_message message = {"user", "the thin end", 12};
  otr_text_stream* stream = NULL;
  const char* text = NULL;
  int32_t tokens[64];
  char back[64];
  size_t count = 0, bytes = 0;
  otr_status status = otr_model_chat(s->model, &message, 1, "chatml", tokens, 64, &count, &s->error);
  if (status == OTR_OK) status = otr_model_tokenize(s->model, "the thin end", 12, 0, tokens, 64, &count, &s->error);
  if (status == OTR_OK) status = otr_model_detokenize(s->model, tokens, count, 0, back, sizeof back, &bytes, &s->error);
  if (status == OTR_OK) status = otr_text_stream_create(s->model, 0, &stream, &s->error);
  if (status == OTR_OK) status = otr_text_stream_push(stream, tokens[0], &text, &bytes, &s->error);
  otr_text_stream_close(&stream);
  return status;
}

static otr_status make_plan(stack* s) {
  otr_plan_options options;
  otr_plan_options_init(&options, sizeof options);
  options.host_budget_bytes = 0;
  options.prompt_tokens = options.new_tokens = 16;
  options.batch = 2;
  return otr_plan_make(s->model, some_profile(), &options, &s->plan, &s->error);
}

/* With a trace, so that it is seen to take no memory in a step, and to do without where there is none. */
static otr_status open_engine(stack* s) {
  otr_engine_options options;
  otr_engine_options_init(&options, sizeof options);
  options.trace_events = 100;
  return otr_engine_open(s->model, s->plan, &options, &s->engine, &s->error);
}

static otr_status open_session(stack* s) { return otr_session_open(s->engine, NULL, &s->session, &s->error); }

static otr_status converse(stack* s) {
  const char* stop[] = {"never in the text"};
  const int32_t prompt[] = {1, 2, 3};
  static char state[1 << 16];
  otr_generate_options options;
  otr_session* fork = NULL;
  size_t bytes = 0;
  otr_status status = otr_session_truncate(s->session, 0, &s->error);
  otr_generate_options_init(&options, sizeof options);
  options.max_tokens = 3;
  options.ignore_eos = 1;
  options.stop = stop;
  options.stop_count = 1;
  if (status == OTR_OK) status = otr_session_generate(s->session, prompt, 3, &options, NULL, &s->error);
  if (status == OTR_OK) status = otr_session_fork(s->session, &fork, &s->error);
  if (status == OTR_OK) status = otr_session_save(s->session, state, sizeof state, &bytes, &s->error);
  if (status == OTR_OK) status = otr_session_restore(fork, state, bytes, &s->error);
  otr_session_close(&fork);
  return status;
}

static otr_status generate_batch(stack* s) {
  const int32_t prompt[] = {1, 2, 3}, *prompts[] = {prompt, prompt};
  const size_t counts[] = {3, 2};
  otr_batch* batch = NULL;
  const otr_status status = otr_batch_generate(s->engine, prompts, counts, 2, NULL, NULL, &batch, &s->error);
  otr_batch_close(&batch);
  return status;
}

static otr_status draw_plan(stack* s) {
  static char page[1 << 17];
  size_t bytes = 0;
  const otr_status status = otr_plan_to_svg(s->plan, s->model, some_profile(), page, sizeof page, &bytes, &s->error);
  return status != OTR_OK ? status : otr_plan_to_html(s->plan, s->model, some_profile(), page, sizeof page, &bytes, &s->error);
}

static otr_status forecast_and_report(stack* s) {
  static char page[1 << 16];
  size_t bytes = 0;
  otr_draft_forecast forecast = {sizeof forecast};
  const otr_status status = otr_plan_forecast_draft(s->plan, s->model, s->model, some_profile(), NULL, 0, &forecast, &s->error);
  return status != OTR_OK ? status : otr_session_generated_to_html(s->session, page, sizeof page, &bytes, &s->error);
}

static const char* trace_path;

static otr_status write_trace(stack* s) { return otr_engine_write_trace(s->engine, trace_path, &s->error); }

static int has_model(const stack* s) { return s->model != NULL; }
static int has_plan(const stack* s) { return s->plan != NULL; }
static int has_engine(const stack* s) { return s->engine != NULL; }
static int has_session(const stack* s) { return s->session != NULL; }
static void close_model(stack* s) { otr_model_close(&s->model); }
static void close_plan(stack* s) { otr_plan_close(&s->plan); }
static void close_engine(stack* s) { otr_engine_close(&s->engine); }
static void close_session(stack* s) { otr_session_close(&s->session); }

/* In the order of use; the last two fields are NULL for a part that leaves nothing behind. */
static const struct {
  otr_status (*run)(stack*);
  int (*has_made)(const stack*);
  void (*undo)(stack*);
} kParts[] = {
    {open_model, has_model, close_model},
    {read_and_write_text, NULL, NULL},
    {make_plan, has_plan, close_plan},
    {draw_plan, NULL, NULL},
    {open_engine, has_engine, close_engine},
    {generate_batch, NULL, NULL},
    {open_session, has_session, close_session},
    {converse, NULL, NULL},
    {forecast_and_report, NULL, NULL},
    {write_trace, NULL, NULL},
};

void running_out_of_memory_is_an_error(void) {
  stack s;
  size_t part;
  memset(&s, 0, sizeof s);
  s.error.struct_size = sizeof s.error;
  some_profile();
  trace_path = scratch_path("trace.json");
  for (part = 0; part < sizeof kParts / sizeof *kParts; ++part) {
    /* Its first allocation fails, then its second, ... until none is left that could. */
    long nth = 0;
    int has_failed = 1;
    while (has_failed) {
      otr_status status;
      NEED_C(++nth < kMostAllocations);
      fail_allocation(nth);
      status = kParts[part].run(&s);
      has_failed = stop_failing_allocations();
      /* What was only wished for may do without. */
      NEED_C(status == OTR_OK || (has_failed && status == OTR_OUT_OF_MEMORY));
      if (kParts[part].undo == NULL) continue;
      NEED_C(kParts[part].has_made(&s) == (status == OTR_OK));
      if (has_failed) kParts[part].undo(&s);
    }
    CHECK_C(nth > 1);
  }
  stack_close(&s);
}

void a_step_allocates_nothing(void) {
  uint64_t before;
  stack s;
  if (!stack_open(&s, 1, 64)) return;
  otr_session_close(&s.session);
  otr_engine_close(&s.engine);
  NEED_C(open_engine(&s) == OTR_OK && open_session(&s) == OTR_OK);
  NEED_C(otr_session_step(s.session, 1, &s.error) == OTR_OK);
  before = allocations_so_far();
  NEED_C(otr_session_step(s.session, 2, &s.error) == OTR_OK);
  CHECK_C(allocations_so_far() == before);
  stack_close(&s);
}
