/* Engines: loading, planning anew, keys and values on disk, traces. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/capi/check.h"
#include "tests/capi/stack.h"

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

void a_mixture_tells_how_texts_come_back_to_its_experts(void) {
  otr_expert_report report = {sizeof report};
  otr_plan_options options;
  otr_plan_summary evenly = {sizeof evenly}, again = {sizeof again};
  otr_model* model = NULL;
  otr_plan* plan = NULL;
  otr_engine* engine = NULL;
  otr_session* session = NULL;
  otr_error error = {sizeof error};
  int token;
  NEED_C(otr_model_open(mixture_model_path(), NULL, &model, &error) == OTR_OK);
  otr_plan_options_init(&options, sizeof options);
  CHECK_C(options.expert_repetition == 1);
  options.prompt_tokens = options.new_tokens = 32;
  options.host_budget_bytes = 1;
  CHECK_C(otr_plan_make(model, some_profile(), &options, &plan, &error) == OTR_BUDGET);
  options.host_budget_bytes = error.needed_bytes + 300000; /* three slots for experts */
  options.expert_repetition = 0.5;
  CHECK_C(otr_plan_make(model, some_profile(), &options, &plan, &error) == OTR_INVALID_ARGUMENT);
  CHECK_C(strstr(error.message, "expert_repetition") != NULL);
  options.expert_repetition = 1;
  NEED_C(otr_plan_make(model, some_profile(), &options, &plan, &error) == OTR_OK);
  CHECK_C(otr_plan_get_summary(plan, &evenly, &error) == OTR_OK);

  NEED_C(otr_engine_open(model, plan, NULL, &engine, &error) == OTR_OK);
  NEED_C(otr_session_open(engine, NULL, &session, &error) == OTR_OK);
  CHECK_C(otr_engine_get_experts(engine, &report, &error) == OTR_OK && report.token_uses == 0 && report.repetition == 1);
  for (token = 0; token < 40; ++token) CHECK_C(otr_session_step(session, 7, &error) == OTR_OK);
  CHECK_C(otr_engine_get_experts(engine, &report, &error) == OTR_OK);
  CHECK_C(report.token_uses == report.uses && report.token_hits > 0 && report.token_hits <= report.hits);
  CHECK_C(report.repetition > 1);
  otr_session_close(&session);
  otr_engine_close(&engine);
  otr_plan_close(&plan);

  options.expert_repetition = report.repetition;
  NEED_C(otr_plan_make(model, some_profile(), &options, &plan, &error) == OTR_OK);
  CHECK_C(otr_plan_get_summary(plan, &again, &error) == OTR_OK);
  CHECK_C(again.predicted_decode_tokens_per_s > evenly.predicted_decode_tokens_per_s);
  otr_plan_close(&plan);
  otr_model_close(&model);
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
