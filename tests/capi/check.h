/* Checks for test cases that are written in C; the driver, capi_test.cc, reports them. */
#ifndef OUTRIGGER_TESTS_CAPI_CHECK_H_
#define OUTRIGGER_TESTS_CAPI_CHECK_H_

#include <outrigger/outrigger.h>

#ifdef __cplusplus
extern "C" {
#endif

void check_that(int holds, const char* what, const char* file, int line);
/* A committed model: tiny (70 KiB) or other (280 KiB, another shape); both have one token for each byte, then <bos> 256, <eos> 257. */
const char* tiny_model_path(void);
const char* other_model_path(void);
/* A committed mixture (550 KiB). */
const char* mixture_model_path(void);
/* One model in float16 as a file and as a Hugging Face directory. */
const char* float16_file_path(void);
const char* float16_folder_path(void);
/* A path in a folder of this test's own; valid until the next call. */
const char* scratch_path(const char* name);
/* A random model whose rows are multiples of 64, of 200 tokens; valid until the end. */
const char* dense_model_path(void);

/* Makes the nth C++ allocation from now fail, once. Ending it tells whether it came to that. */
void fail_allocation(long nth);
int stop_failing_allocations(void);
/* By all threads, since the program began. */
uint64_t allocations_so_far(void);

#define CHECK_C(holds) check_that((holds) != 0, #holds, __FILE__, __LINE__)
/* For what the rest of the case stands on. */
#define NEED_C(holds)                               \
  do {                                              \
    const int needed = (holds) != 0;                \
    check_that(needed, #holds, __FILE__, __LINE__); \
    if (!needed) return;                            \
  } while (0)

/* The cases. */
void the_library_says_what_it_is(void);
void a_model_says_what_it_is(void);
void a_model_opens_from_memory(void);
void a_directory_is_a_model_too(void);
void a_model_is_packed(void);
void a_model_is_compressed(void);
void a_model_is_exported(void);
void text_becomes_tokens_and_comes_back(void);
void a_text_stream_never_splits_a_character(void);
void a_chat_becomes_tokens(void);
void a_profile_survives_json(void);
void a_plan_survives_json(void);
void a_profile_with_a_device_makes_plans_for_it(void);
void a_draft_model_computes_on_the_device(void);
void a_draft_is_forecast(void);
void a_draft_pays_where_weights_stream(void);
void what_was_generated_becomes_a_page(void);
void a_plan_becomes_a_picture(void);
void a_budget_error_says_what_would_do(void);
void copies_of_what_streams_draft(void);
void a_plan_without_a_profile_measures_once(void);
void an_engine_loads_and_reports(void);
void loading_can_be_cancelled(void);
void an_engine_can_be_planned_anew(void);
void keys_and_values_can_be_on_disk(void);
void a_mixture_tells_how_texts_come_back_to_its_experts(void);
void an_engine_refuses_what_does_not_fit(void);
void handles_close_in_any_order(void);
void an_engine_keeps_a_trace(void);
void generating_equals_stepping(void);
void drafts_change_no_token(void);
void drafts_are_refused_by_name(void);
void a_callback_stops_generation(void);
void another_thread_stops_generation(void);
void a_stop_text_ends_generation(void);
void a_full_context_ends_generation(void);
void evaluation_gives_every_tokens_logits(void);
void prefill_reports_progress(void);
void a_state_is_saved_and_restored(void);
void a_fork_goes_its_own_way(void);
void a_sampler_follows_its_options(void);
void a_session_follows_the_load(void);
void a_batch_follows_the_load(void);
void a_batch_equals_its_texts_alone(void);
void a_batch_tells_each_text_its_own_error(void);
void sessions_step_together(void);
void a_null_is_an_error(void);
void a_wrong_struct_size_is_an_error(void);
void other_versions_of_a_struct_are_understood(void);
void a_wrong_order_is_an_error(void);
void a_session_is_busy_in_its_own_callbacks(void);
void closing_twice_does_nothing(void);
void an_error_is_cut_at_a_character(void);
void a_log_sink_comes_and_goes(void);
void running_out_of_memory_is_an_error(void);
void a_step_allocates_nothing(void);

#ifdef __cplusplus
}
#endif

#endif /* OUTRIGGER_TESTS_CAPI_CHECK_H_ */
