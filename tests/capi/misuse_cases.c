/* What a caller can do wrong: each gives an error, in the caller's struct, and nothing else happens. */
#include <stdlib.h>
#include <string.h>

#include "tests/capi/check.h"
#include "tests/capi/stack.h"

/* The call is refused, and says why. */
#define REFUSED_C(call)                                                        \
  do {                                                                         \
    error.message[0] = '\0';                                                   \
    CHECK_C((call) == OTR_INVALID_ARGUMENT);                                   \
    CHECK_C(error.status == OTR_INVALID_ARGUMENT && error.message[0] != '\0'); \
  } while (0)

static void null_models(otr_error* e) {
  otr_error error = *e;
  otr_model_info info = {sizeof info};
  otr_tensor_info tensor = {sizeof tensor};
  otr_model* model = (otr_model*)&info;
  otr_text_stream* stream = (otr_text_stream*)&info;
  otr_cancel* cancel = NULL;
  const char* text = "kept only on success";
  char buffer[8];
  int32_t token = 0;
  size_t count = 0;
  REFUSED_C(otr_get_build_info(NULL, &error));
  REFUSED_C(otr_cancel_create(NULL, &error));
  otr_cancel_trigger(cancel);
  otr_cancel_reset(cancel);
  CHECK_C(otr_cancel_is_triggered(cancel) == 0);
  REFUSED_C(otr_model_open(NULL, NULL, &model, &error));
  CHECK_C(model == NULL);
  REFUSED_C(otr_model_open(tiny_model_path(), NULL, NULL, &error));
  REFUSED_C(otr_model_open_memory(NULL, 1, &model, &error));
  REFUSED_C(otr_model_open_memory(buffer, 1, NULL, &error));
  REFUSED_C(otr_model_get_info(NULL, &info, &error));
  REFUSED_C(otr_model_get_tensor(NULL, 0, &tensor, &error));
  REFUSED_C(otr_model_tokenize(NULL, "a", 1, 0, &token, 1, &count, &error));
  REFUSED_C(otr_model_chat(NULL, NULL, 0, NULL, &token, 1, &count, &error));
  REFUSED_C(otr_model_detokenize(NULL, &token, 1, 0, buffer, 8, &count, &error));
  REFUSED_C(otr_model_token_text(NULL, 0, 0, buffer, 8, &count, &error));
  REFUSED_C(otr_model_token_ends_generation(NULL, 0, &token, &error));
  REFUSED_C(otr_model_compress(NULL, &token, 1, scratch_path("small.gguf"), NULL, NULL, &error));
  REFUSED_C(otr_model_export(NULL, scratch_path("backbone.gguf"), NULL, NULL, &error));
  REFUSED_C(otr_model_pack(NULL, scratch_path("packed.gguf"), NULL, &error));
  REFUSED_C(otr_text_stream_create(NULL, 0, &stream, &error));
  CHECK_C(stream == NULL);
  REFUSED_C(otr_text_stream_push(NULL, 0, &text, &count, &error));
  CHECK_C(text == NULL);
  REFUSED_C(otr_text_stream_finish(NULL, &text, &count, &error));

  NEED_C(otr_model_open(tiny_model_path(), NULL, &model, &error) == OTR_OK);
  REFUSED_C(otr_model_get_info(model, NULL, &error));
  REFUSED_C(otr_model_get_tensor(model, 0, NULL, &error));
  REFUSED_C(otr_model_tokenize(model, NULL, 1, 0, &token, 1, &count, &error));
  REFUSED_C(otr_model_tokenize(model, "a", 1, 0, &token, 1, NULL, &error));
  REFUSED_C(otr_model_chat(model, NULL, 1, NULL, &token, 1, &count, &error));
  REFUSED_C(otr_model_detokenize(model, NULL, 1, 0, buffer, 8, &count, &error));
  REFUSED_C(otr_model_detokenize(model, &token, 1, 0, buffer, 8, NULL, &error));
  REFUSED_C(otr_model_token_text(model, 0, 0, buffer, 8, NULL, &error));
  REFUSED_C(otr_model_token_ends_generation(model, 0, NULL, &error));
  REFUSED_C(otr_model_pack(model, NULL, NULL, &error));
  REFUSED_C(otr_model_export(model, NULL, NULL, NULL, &error));
  REFUSED_C(otr_model_compress(model, NULL, 1, scratch_path("small.gguf"), NULL, NULL, &error));
  REFUSED_C(otr_model_compress(model, &token, 1, NULL, NULL, NULL, &error));
  REFUSED_C(otr_text_stream_create(model, 0, NULL, &error));
  REFUSED_C(otr_text_stream_create(model, 2, &stream, &error));
  NEED_C(otr_text_stream_create(model, 0, &stream, &error) == OTR_OK);
  REFUSED_C(otr_text_stream_push(stream, 0, NULL, &count, &error));
  REFUSED_C(otr_text_stream_finish(stream, &text, NULL, &error));
  otr_text_stream_close(&stream);
  otr_model_close(&model);
}

static void null_plans_and_engines(otr_error* e, const stack* s) {
  otr_error error = *e;
  otr_plan_summary summary = {sizeof summary};
  otr_memory_report memory = {sizeof memory};
  otr_stream_report streamed = {sizeof streamed};
  otr_expert_report experts = {sizeof experts};
  otr_device_report device = {sizeof device};
  otr_lane_busy busy = {sizeof busy};
  otr_draft_forecast forecast = {sizeof forecast};
  otr_profile* profile = (otr_profile*)&summary;
  otr_plan* plan = (otr_plan*)&summary;
  otr_engine* engine = (otr_engine*)&summary;
  char buffer[8];
  size_t bytes = 0;
  REFUSED_C(otr_profile_measure(NULL, NULL, &error));
  REFUSED_C(otr_profile_from_json(NULL, 2, &profile, &error));
  CHECK_C(profile == NULL);
  REFUSED_C(otr_profile_from_json("{}", 2, NULL, &error));
  REFUSED_C(otr_profile_to_json(NULL, buffer, 8, &bytes, &error));
  REFUSED_C(otr_profile_to_json(some_profile(), buffer, 8, NULL, &error));
  REFUSED_C(otr_plan_make(NULL, NULL, NULL, &plan, &error));
  CHECK_C(plan == NULL);
  REFUSED_C(otr_plan_make(s->model, some_profile(), NULL, NULL, &error));
  REFUSED_C(otr_plan_from_json(NULL, 2, &plan, &error));
  REFUSED_C(otr_plan_to_json(NULL, buffer, 8, &bytes, &error));
  REFUSED_C(otr_plan_to_json(s->plan, buffer, 8, NULL, &error));
  REFUSED_C(otr_plan_to_text(NULL, buffer, 8, &bytes, &error));
  REFUSED_C(otr_plan_to_text(s->plan, buffer, 8, &bytes, &error)); /* too small */
  REFUSED_C(otr_plan_to_svg(NULL, s->model, some_profile(), buffer, 8, &bytes, &error));
  REFUSED_C(otr_plan_to_svg(s->plan, NULL, some_profile(), buffer, 8, &bytes, &error));
  REFUSED_C(otr_plan_to_svg(s->plan, s->model, some_profile(), buffer, 8, NULL, &error));
  REFUSED_C(otr_plan_to_html(NULL, s->model, some_profile(), buffer, 8, &bytes, &error));
  REFUSED_C(otr_plan_to_html(s->plan, NULL, some_profile(), buffer, 8, &bytes, &error));
  REFUSED_C(otr_plan_to_html(s->plan, s->model, some_profile(), buffer, 8, &bytes, &error)); /* too small */
  REFUSED_C(otr_plan_forecast_draft(NULL, s->model, s->model, some_profile(), NULL, 0, &forecast, &error));
  REFUSED_C(otr_plan_forecast_draft(s->plan, NULL, s->model, some_profile(), NULL, 0, &forecast, &error));
  REFUSED_C(otr_plan_forecast_draft(s->plan, s->model, NULL, some_profile(), NULL, 0, &forecast, &error));
  REFUSED_C(otr_plan_forecast_draft(s->plan, s->model, s->model, some_profile(), NULL, 0, NULL, &error));
  REFUSED_C(otr_plan_get_summary(NULL, &summary, &error));
  REFUSED_C(otr_plan_get_summary(s->plan, NULL, &error));
  REFUSED_C(otr_engine_open(NULL, s->plan, NULL, &engine, &error));
  CHECK_C(engine == NULL);
  REFUSED_C(otr_engine_open(s->model, NULL, NULL, &engine, &error));
  REFUSED_C(otr_engine_open(s->model, s->plan, NULL, NULL, &error));
  REFUSED_C(otr_engine_get_memory(NULL, OTR_TIER_HOST, &memory, &error));
  REFUSED_C(otr_engine_get_memory(s->engine, OTR_TIER_HOST, NULL, &error));
  REFUSED_C(otr_engine_get_streamed(NULL, &streamed, &error));
  REFUSED_C(otr_engine_get_streamed(s->engine, NULL, &error));
  REFUSED_C(otr_engine_get_experts(NULL, &experts, &error));
  REFUSED_C(otr_engine_get_experts(s->engine, NULL, &error));
  REFUSED_C(otr_engine_get_device(NULL, &device, &error));
  REFUSED_C(otr_engine_get_device(s->engine, NULL, &error));
  REFUSED_C(otr_engine_lane_busy(NULL, 1, &busy, &error));
  REFUSED_C(otr_engine_lane_busy(s->engine, 1, NULL, &error));
  REFUSED_C(otr_engine_write_trace(NULL, scratch_path("trace.json"), &error));
  REFUSED_C(otr_engine_write_trace(s->engine, NULL, &error));
}

static void null_sessions(otr_error* e, const stack* s) {
  const float one = 1, *logits = &one;
  otr_error error = *e;
  otr_session *session = (otr_session*)&error, *fork = NULL;
  otr_sampler* sampler = (otr_sampler*)&error;
  otr_prefill_options prefill;
  otr_evaluate_options evaluate;
  otr_branch_use use = {sizeof use};
  int32_t token = 0;
  char buffer[8];
  size_t count = 0;
  uint64_t position = 0;
  otr_prefill_options_init(&prefill, sizeof prefill);
  otr_evaluate_options_init(&evaluate, sizeof evaluate);
  REFUSED_C(otr_sampler_create(NULL, NULL, &error));
  REFUSED_C(otr_sampler_sample(NULL, &one, 1, NULL, 0, &token, &error));
  REFUSED_C(otr_session_open(NULL, NULL, &session, &error));
  CHECK_C(session == NULL);
  REFUSED_C(otr_session_open(s->engine, NULL, NULL, &error));
  REFUSED_C(otr_session_prefill(NULL, &token, 1, &prefill, &error));
  REFUSED_C(otr_session_prefill(s->session, NULL, 1, NULL, &error));
  REFUSED_C(otr_session_prefill(s->session, NULL, 0, NULL, &error));
  REFUSED_C(otr_session_step(NULL, 0, &error));
  REFUSED_C(otr_session_evaluate(NULL, &token, 1, &evaluate, &error));
  REFUSED_C(otr_session_evaluate(s->session, &token, 1, NULL, &error));
  REFUSED_C(otr_session_get_logits(NULL, &logits, &count, &error));
  CHECK_C(logits == NULL);
  REFUSED_C(otr_session_get_logits(s->session, NULL, &count, &error));
  REFUSED_C(otr_session_get_logits(s->session, &logits, NULL, &error));
  REFUSED_C(otr_session_sample(NULL, NULL, &token, &error));
  REFUSED_C(otr_session_sample(s->session, NULL, &token, &error));
  REFUSED_C(otr_session_get_tokens(NULL, &token, 1, &count, &error));
  REFUSED_C(otr_session_get_tokens(s->session, &token, 1, NULL, &error));
  REFUSED_C(otr_session_get_position(NULL, &position, NULL, &error));
  REFUSED_C(otr_session_generate(NULL, &token, 1, NULL, NULL, &error));
  REFUSED_C(otr_session_generate(s->session, NULL, 1, NULL, NULL, &error));
  REFUSED_C(otr_session_generated_tokens(NULL, &token, 1, &count, &error));
  REFUSED_C(otr_session_generated_tokens(s->session, &token, 1, NULL, &error));
  REFUSED_C(otr_session_generated_to_html(NULL, buffer, 8, &count, &error));
  REFUSED_C(otr_session_generated_to_html(s->session, buffer, 8, NULL, &error));
  REFUSED_C(otr_session_generated_text(NULL, buffer, 8, &count, &error));
  REFUSED_C(otr_session_generated_text(s->session, buffer, 8, NULL, &error));
  REFUSED_C(otr_session_truncate(NULL, 0, &error));
  REFUSED_C(otr_session_set_branch_share(NULL, 1, &error));
  REFUSED_C(otr_session_follow_load(NULL, NULL, &error));
  REFUSED_C(otr_session_get_branch_use(NULL, &use, &error));
  REFUSED_C(otr_session_get_branch_use(s->session, NULL, &error));
  REFUSED_C(otr_session_fork(NULL, &fork, &error));
  REFUSED_C(otr_session_fork(s->session, NULL, &error));
  REFUSED_C(otr_session_save(NULL, buffer, 8, &count, &error));
  REFUSED_C(otr_session_save(s->session, buffer, 8, NULL, &error));
  REFUSED_C(otr_session_restore(NULL, buffer, 8, &error));
  REFUSED_C(otr_session_restore(s->session, NULL, 8, &error));
  REFUSED_C(otr_session_save_file(NULL, "x", &error));
  REFUSED_C(otr_session_save_file(s->session, NULL, &error));
  REFUSED_C(otr_session_restore_file(NULL, "x", &error));
  REFUSED_C(otr_session_restore_file(s->session, NULL, &error));

  NEED_C(otr_sampler_create(NULL, &sampler, &error) == OTR_OK);
  REFUSED_C(otr_sampler_sample(sampler, NULL, 1, NULL, 0, &token, &error));
  REFUSED_C(otr_sampler_sample(sampler, &one, 1, NULL, 0, NULL, &error));
  REFUSED_C(otr_session_sample(s->session, sampler, NULL, &error));
  otr_sampler_close(&sampler);
}

static void null_batches(otr_error* e, const stack* s) {
  const int32_t token = 1, *prompt = &token, *no_prompt = NULL;
  const size_t one = 1;
  otr_error error = *e;
  otr_batch* batch = (otr_batch*)&error;
  otr_batch_report report = {sizeof report};
  otr_generate_result result = {sizeof result};
  char buffer[8];
  int32_t tokens[8];
  size_t count = 0;
  REFUSED_C(otr_batch_generate(NULL, &prompt, &one, 1, NULL, NULL, &batch, &error));
  CHECK_C(batch == NULL);
  REFUSED_C(otr_batch_generate(s->engine, NULL, &one, 1, NULL, NULL, &batch, &error));
  REFUSED_C(otr_batch_generate(s->engine, &prompt, NULL, 1, NULL, NULL, &batch, &error));
  REFUSED_C(otr_batch_generate(s->engine, &no_prompt, &one, 1, NULL, NULL, &batch, &error));
  REFUSED_C(otr_batch_generate(s->engine, &prompt, &one, 1, NULL, NULL, NULL, &error));
  REFUSED_C(otr_batch_get_report(NULL, &report, &error));
  REFUSED_C(otr_batch_get_result(NULL, 0, &result, &error));
  REFUSED_C(otr_batch_get_tokens(NULL, 0, tokens, 8, &count, &error));
  REFUSED_C(otr_batch_get_text(NULL, 0, buffer, 8, &count, &error));
  NEED_C(otr_batch_generate(s->engine, NULL, NULL, 0, NULL, NULL, &batch, &error) == OTR_OK);
  REFUSED_C(otr_batch_get_report(batch, NULL, &error));
  REFUSED_C(otr_batch_get_result(batch, 0, NULL, &error));
  REFUSED_C(otr_batch_get_tokens(batch, 0, tokens, 8, NULL, &error));
  REFUSED_C(otr_batch_get_text(batch, 0, buffer, 8, NULL, &error));
  otr_batch_close(&batch);
}

void a_null_is_an_error(void) {
  otr_error error = {sizeof error};
  stack s;
  null_models(&error);
  if (!stack_open(&s, 1, 64)) return;
  null_plans_and_engines(&error, &s);
  null_sessions(&error, &s);
  null_batches(&error, &s);
  /* Nobody has to take the error. */
  CHECK_C(otr_session_step(NULL, 0, NULL) == OTR_INVALID_ARGUMENT);
  otr_model_options_init(NULL, 8);
  otr_profile_options_init(NULL, 8);
  otr_plan_options_init(NULL, 8);
  otr_engine_options_init(NULL, 8);
  otr_sampling_options_init(NULL, 8);
  otr_session_options_init(NULL, 8);
  otr_prefill_options_init(NULL, 8);
  otr_evaluate_options_init(NULL, 8);
  otr_generate_options_init(NULL, 8);
  otr_batch_options_init(NULL, 8);
  stack_close(&s);
}

/* Before it could keep a trace; the others, before keys and values could be on disk. */
enum { kFirstEngineOptions = 40, kFirstPlanOptions = 48, kFirstPlanSummary = 128, kFirstStreamReport = 32, kFirstGenerate = 72 };

/* `call` with each struct_size that no version ever had; `first` is that of the version that had the struct first. */
#define WRONG_SIZES_C(object, call) WRONG_SIZES_SINCE_C(object, (uint32_t)sizeof(object), call)
#define WRONG_SIZES_SINCE_C(object, first, call)                                     \
  do {                                                                               \
    const uint32_t right_size = (object).struct_size;                                \
    const uint32_t wrong[] = {0, 4, (first) - 1, 5000, UINT32_MAX};                  \
    size_t w;                                                                        \
    for (w = 0; w < sizeof wrong / sizeof *wrong; ++w) {                             \
      (object).struct_size = wrong[w];                                               \
      REFUSED_C(call);                                                               \
      CHECK_C(strstr(error.message, "struct_size") != NULL);                         \
    }                                                                                \
    (object).struct_size = right_size;                                               \
  } while (0)

static void nothing_to_do(void* user, size_t index, const float* logits, size_t count) {
  (void)user, (void)index, (void)logits, (void)count;
}

void a_wrong_struct_size_is_an_error(void) {
  const int32_t token = 1;
  otr_error error = {sizeof error};
  otr_build_info build = {sizeof build};
  otr_model_info info = {sizeof info};
  otr_tensor_info tensor = {sizeof tensor};
  otr_plan_summary summary = {sizeof summary};
  otr_memory_report memory = {sizeof memory};
  otr_stream_report streamed = {sizeof streamed};
  otr_expert_report experts = {sizeof experts};
  otr_device_report device = {sizeof device};
  otr_lane_busy busy = {sizeof busy};
  otr_draft_forecast forecast = {sizeof forecast};
  otr_batch_report batch_report = {sizeof batch_report};
  otr_branch_use use = {sizeof use};
  otr_follow_load_options follow_options;
  otr_batch_options batch_options;
  otr_batch* batch = NULL;
  otr_generate_result result = {sizeof result};
  otr_model_options model_options;
  otr_pack_options pack_options;
  otr_compress_options compress_options;
  otr_export_options export_options;
  otr_profile_options profile_options;
  otr_plan_options plan_options;
  otr_engine_options engine_options;
  otr_sampling_options sampling_options;
  otr_session_options session_options;
  otr_prefill_options prefill_options;
  otr_evaluate_options evaluate_options;
  otr_generate_options generate_options;
  otr_model* model = NULL;
  otr_profile* profile = NULL;
  otr_plan* plan = NULL;
  otr_engine* engine = NULL;
  otr_sampler* sampler = NULL;
  otr_session* session = NULL;
  stack s;
  if (!stack_open(&s, 1, 64)) return;
  otr_model_options_init(&model_options, sizeof model_options);
  otr_pack_options_init(&pack_options, sizeof pack_options);
  otr_compress_options_init(&compress_options, sizeof compress_options);
  otr_export_options_init(&export_options, sizeof export_options);
  otr_profile_options_init(&profile_options, sizeof profile_options);
  otr_plan_options_init(&plan_options, sizeof plan_options);
  otr_engine_options_init(&engine_options, sizeof engine_options);
  otr_sampling_options_init(&sampling_options, sizeof sampling_options);
  otr_session_options_init(&session_options, sizeof session_options);
  otr_prefill_options_init(&prefill_options, sizeof prefill_options);
  otr_evaluate_options_init(&evaluate_options, sizeof evaluate_options);
  otr_generate_options_init(&generate_options, sizeof generate_options);
  otr_follow_load_options_init(&follow_options, sizeof follow_options);
  evaluate_options.on_logits = nothing_to_do;

  WRONG_SIZES_C(build, otr_get_build_info(&build, &error));
  WRONG_SIZES_C(info, otr_model_get_info(s.model, &info, &error));
  WRONG_SIZES_C(tensor, otr_model_get_tensor(s.model, 0, &tensor, &error));
  WRONG_SIZES_SINCE_C(summary, kFirstPlanSummary, otr_plan_get_summary(s.plan, &summary, &error));
  WRONG_SIZES_SINCE_C(memory, 96, otr_engine_get_memory(s.engine, OTR_TIER_HOST, &memory, &error));
  WRONG_SIZES_SINCE_C(streamed, kFirstStreamReport, otr_engine_get_streamed(s.engine, &streamed, &error));
  WRONG_SIZES_SINCE_C(experts, 48, otr_engine_get_experts(s.engine, &experts, &error));
  WRONG_SIZES_SINCE_C(device, 48, otr_engine_get_device(s.engine, &device, &error));
  WRONG_SIZES_SINCE_C(forecast, 48, otr_plan_forecast_draft(s.plan, s.model, s.model, some_profile(), NULL, 0, &forecast, &error));
  WRONG_SIZES_C(busy, otr_engine_lane_busy(s.engine, 1, &busy, &error));
  WRONG_SIZES_SINCE_C(result, kFirstGenerate, otr_session_generate(s.session, &token, 1, NULL, &result, &error));
  WRONG_SIZES_C(model_options, otr_model_open(tiny_model_path(), &model_options, &model, &error));
  WRONG_SIZES_C(pack_options, otr_model_pack(s.model, scratch_path("packed.gguf"), &pack_options, &error));
  WRONG_SIZES_SINCE_C(compress_options, 48,
                      otr_model_compress(s.model, &token, 1, scratch_path("small.gguf"), &compress_options, NULL, &error));
  WRONG_SIZES_C(export_options, otr_model_export(s.model, scratch_path("backbone.gguf"), &export_options, NULL, &error));
  WRONG_SIZES_C(profile_options, otr_profile_measure(&profile_options, &profile, &error));
  WRONG_SIZES_SINCE_C(plan_options, kFirstPlanOptions, otr_plan_make(s.model, some_profile(), &plan_options, &plan, &error));
  WRONG_SIZES_SINCE_C(engine_options, kFirstEngineOptions, otr_engine_open(s.model, s.plan, &engine_options, &engine, &error));
  WRONG_SIZES_C(sampling_options, otr_sampler_create(&sampling_options, &sampler, &error));
  generate_options.sampling = &sampling_options;
  WRONG_SIZES_C(sampling_options, otr_session_generate(s.session, &token, 1, &generate_options, NULL, &error));
  WRONG_SIZES_SINCE_C(generate_options, kFirstGenerate, otr_session_generate(s.session, &token, 1, &generate_options, NULL, &error));
  otr_batch_options_init(&batch_options, sizeof batch_options);
  WRONG_SIZES_SINCE_C(batch_options, 24, otr_batch_generate(s.engine, NULL, NULL, 0, NULL, &batch_options, &batch, &error));
  NEED_C(otr_batch_generate(s.engine, NULL, NULL, 0, NULL, NULL, &batch, &error) == OTR_OK);
  WRONG_SIZES_SINCE_C(batch_report, 64, otr_batch_get_report(batch, &batch_report, &error));
  otr_batch_close(&batch);
  WRONG_SIZES_C(session_options, otr_session_open(s.engine, &session_options, &session, &error));
  WRONG_SIZES_C(follow_options, otr_session_follow_load(s.session, &follow_options, &error));
  WRONG_SIZES_C(use, otr_session_get_branch_use(s.session, &use, &error));
  WRONG_SIZES_C(prefill_options, otr_session_prefill(s.session, &token, 1, &prefill_options, &error));
  WRONG_SIZES_C(evaluate_options, otr_session_evaluate(s.session, &token, 1, &evaluate_options, &error));

  /* An error that cannot be written to is left alone, and the call is not made. */
  error.struct_size = 0;
  error.status = -1;
  strcpy(error.message, "untouched");
  CHECK_C(otr_model_open(tiny_model_path(), NULL, &model, &error) == OTR_INVALID_ARGUMENT && model == NULL);
  CHECK_C(error.status == -1 && strcmp(error.message, "untouched") == 0);
  stack_close(&s);
}

void other_versions_of_a_struct_are_understood(void) {
  struct {
    otr_plan_options options;
    unsigned char later[16];
  } newer;
  struct {
    otr_model_info info;
    unsigned char later[16];
  } newer_info;
  struct {
    otr_session_options options;
    uint32_t beyond;
  } older = {{0, 0}, 0xABCDEF01};
  otr_error error = {sizeof error};
  otr_engine_options engine_options = {.trace_events = UINT64_MAX};
  otr_plan_options options;
  otr_model* model = NULL;
  otr_plan* plan = NULL;
  otr_engine* engine = NULL;
  size_t i;
  otr_plan_options_init(&options, sizeof options);
  NEED_C(otr_model_open(tiny_model_path(), NULL, &model, &error) == OTR_OK);

  /* A program built with a later header: its new fields are 0 until it sets one. */
  memset(&newer, 0xEE, sizeof newer);
  otr_plan_options_init(&newer.options, sizeof newer);
  CHECK_C(newer.options.struct_size == sizeof newer && newer.options.batch == 1);
  for (i = 0; i < sizeof newer.later; ++i) CHECK_C(newer.later[i] == 0);
  newer.options.prompt_tokens = newer.options.new_tokens = 32;
  newer.options.host_budget_bytes = 0;
  CHECK_C(otr_plan_make(model, some_profile(), &newer.options, &plan, &error) == OTR_OK);
  otr_plan_close(&plan);
  newer.later[15] = 1;
  REFUSED_C(otr_plan_make(model, some_profile(), &newer.options, &plan, &error));
  memset(&newer_info, 0xEE, sizeof newer_info);
  newer_info.info.struct_size = sizeof newer_info;
  CHECK_C(otr_model_get_info(model, &newer_info.info, &error) == OTR_OK && newer_info.info.layers == 2);
  CHECK_C(newer_info.info.struct_size == sizeof newer_info);
  for (i = 0; i < sizeof newer_info.later; ++i) CHECK_C(newer_info.later[i] == 0);

  /* Never beyond what the caller has. */
  otr_session_options_init(&older.options, 4);
  CHECK_C(older.options.struct_size == 4);
  otr_session_options_init(&older.options, sizeof older.options);
  CHECK_C(older.options.struct_size == sizeof older.options && older.beyond == 0xABCDEF01);
  older.options.struct_size = 77;
  otr_session_options_init(&older.options, 0);
  otr_session_options_init(&older.options, UINT32_MAX);
  CHECK_C(older.options.struct_size == 77);
  otr_engine_options_init(&engine_options, kFirstEngineOptions);
  CHECK_C(engine_options.struct_size == kFirstEngineOptions && engine_options.trace_events == UINT64_MAX);
  /* An older program's options end before kv_spilled_layers: what is behind them is not looked at. */
  options.kv_spilled_layers = 1000;
  otr_plan_options_init(&options, kFirstPlanOptions);
  CHECK_C(options.struct_size == kFirstPlanOptions && options.kv_spilled_layers == 1000);
  options.host_budget_bytes = 0;
  options.prompt_tokens = options.new_tokens = 32;
  CHECK_C(otr_plan_make(model, some_profile(), &options, &plan, &error) == OTR_OK);
  CHECK_C(otr_engine_open(model, plan, &engine_options, &engine, &error) == OTR_OK);
  otr_engine_close(&engine);
  otr_plan_close(&plan);
  otr_model_close(&model);
}

void a_wrong_order_is_an_error(void) {
  const int32_t bad[] = {1, 261}, negative[] = {-1}, good[] = {1, 2, 3};
  otr_error error = {sizeof error};
  otr_sampler* sampler = NULL;
  const float* logits = NULL;
  int32_t token = 0;
  size_t count = 0;
  uint64_t position = 9;
  stack s;
  if (!stack_open(&s, 1, 64)) return;
  NEED_C(otr_sampler_create(NULL, &sampler, &error) == OTR_OK);
  REFUSED_C(otr_session_get_logits(s.session, &logits, &count, &error));
  REFUSED_C(otr_session_sample(s.session, sampler, &token, &error));
  REFUSED_C(otr_session_generate(s.session, NULL, 0, NULL, NULL, &error));
  REFUSED_C(otr_session_truncate(s.session, 1, &error));
  REFUSED_C(otr_session_step(s.session, 261, &error));
  REFUSED_C(otr_session_step(s.session, -1, &error));
  REFUSED_C(otr_session_step(s.session, INT32_MAX, &error));
  REFUSED_C(otr_session_prefill(s.session, bad, 2, NULL, &error));
  REFUSED_C(otr_session_generate(s.session, negative, 1, NULL, NULL, &error));
  CHECK_C(otr_session_get_position(s.session, &position, NULL, &error) == OTR_OK && position == 0);

  /* A step before any prefill is a prefill of one token. */
  CHECK_C(otr_session_step(s.session, 256, &error) == OTR_OK);
  CHECK_C(otr_session_get_logits(s.session, &logits, &count, &error) == OTR_OK && count == 261);
  CHECK_C(otr_session_prefill(s.session, good, 3, NULL, &error) == OTR_OK);
  REFUSED_C(otr_session_truncate(s.session, 5, &error));
  REFUSED_C(otr_session_set_branch_share(s.session, 1.5f, &error));
  REFUSED_C(otr_session_set_branch_share(s.session, -1, &error));
  REFUSED_C(otr_session_truncate(s.session, (UINT64_C(1) << 32) + 1, &error)); /* not 1 */
  CHECK_C(otr_session_truncate(s.session, 2, &error) == OTR_OK);
  REFUSED_C(otr_session_get_logits(s.session, &logits, &count, &error));
  CHECK_C(logits == NULL);
  otr_sampler_close(&sampler);
  stack_close(&s);
}

static int32_t calls_its_own_session(void* user, int32_t token, const char* text, size_t bytes) {
  stack* s = user;
  otr_error error = {sizeof error};
  size_t count = 0;
  (void)token, (void)text, (void)bytes;
  REFUSED_C(otr_session_get_tokens(s->session, NULL, 0, &count, &error));
  CHECK_C(strstr(error.message, "busy") != NULL);
  REFUSED_C(otr_session_step(s->session, 1, &error));
  return 0;
}

void a_session_is_busy_in_its_own_callbacks(void) {
  const int32_t prompt[] = {1, 2};
  otr_generate_options options;
  size_t count = 0;
  stack s;
  if (!stack_open(&s, 1, 64)) return;
  otr_generate_options_init(&options, sizeof options);
  options.max_tokens = 2;
  options.ignore_eos = 1;
  options.on_token = calls_its_own_session;
  options.user = &s;
  CHECK_C(otr_session_generate(s.session, prompt, 2, &options, NULL, &s.error) == OTR_OK);
  CHECK_C(otr_session_get_tokens(s.session, NULL, 0, &count, &s.error) == OTR_OK && count == 4);
  stack_close(&s);
}

void closing_twice_does_nothing(void) {
  otr_cancel* cancel = NULL;
  otr_text_stream* stream = NULL;
  otr_profile* profile = NULL;
  otr_sampler* sampler = NULL;
  stack s;
  if (!stack_open(&s, 1, 64)) return;
  stack_close(&s);
  CHECK_C(s.model == NULL && s.plan == NULL && s.engine == NULL && s.session == NULL);
  stack_close(&s);
  otr_cancel_close(&cancel);
  otr_text_stream_close(&stream);
  otr_profile_close(&profile);
  otr_sampler_close(&sampler);
  otr_cancel_close(NULL);
  otr_text_stream_close(NULL);
  otr_profile_close(NULL);
  otr_sampler_close(NULL);
  otr_model_close(NULL);
  otr_plan_close(NULL);
  otr_engine_close(NULL);
  otr_session_close(NULL);
  otr_batch_close(NULL);
}

/* Whether the text is whole two-byte characters after `prefix_bytes` bytes, and all that fits. */
static int is_cut_well(const char* text, size_t capacity, size_t prefix_bytes) {
  const size_t size = strlen(text);
  return size < capacity && size + 2 >= capacity && (size - prefix_bytes) % 2 == 0;
}

void an_error_is_cut_at_a_character(void) {
  char path[1200];
  size_t i, start;
  /* Both parities, so that the cut falls between and within characters. */
  for (start = 1; start <= 2; ++start) {
    otr_error error = {sizeof error};
    otr_model* model = NULL;
    size_t before;
    memset(path, '/', start);
    for (i = start; i + 2 < sizeof path - 1; i += 2) memcpy(path + i, "\xC3\xA9", 2);
    path[i] = '\0';
    CHECK_C(otr_model_open(path, NULL, &model, &error) != OTR_OK && error.message[0] != '\0');
    NEED_C(strchr(error.message, '\xC3') != NULL);
    before = (size_t)(strchr(error.message, '\xC3') - error.message);
    CHECK_C(is_cut_well(error.message, sizeof error.message, before));
    if (error.file[0] != '\0') CHECK_C(is_cut_well(error.file, sizeof error.file, start));
  }
}

static void count_lines(void* user, int32_t level, const char* line, size_t bytes) {
  (void)level, (void)line;
  *(size_t*)user += bytes;
}

void a_log_sink_comes_and_goes(void) {
  otr_error error = {sizeof error};
  size_t bytes = 0;
  otr_model* model = NULL;
  REFUSED_C(otr_log_set_sink(count_lines, &bytes, 4, &error));
  REFUSED_C(otr_log_set_sink(count_lines, &bytes, -1, &error));
  CHECK_C(otr_log_set_sink(count_lines, &bytes, OTR_LOG_DEBUG, &error) == OTR_OK);
  CHECK_C(otr_model_open(tiny_model_path(), NULL, &model, &error) == OTR_OK);
  CHECK_C(otr_log_set_sink(NULL, NULL, OTR_LOG_ERROR, &error) == OTR_OK);
  otr_model_close(&model);
}
