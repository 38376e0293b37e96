// Runs the C API's cases, which are written in C, and counts their checks.
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "tests/capi/check.h"
#include "tests/support/catch.h"
#include "tests/support/heap_watch.h"
#include "tests/support/random_dense.h"

namespace {

// Made once, removed with everything in it.
class ScratchFolder {
 public:
  ScratchFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "otr_capi_XXXXXX").string();
    if (mkdtemp(pattern.data()) != nullptr) path_ = pattern;
  }
  ~ScratchFolder() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  std::string file(const char* name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

std::optional<outrigger::FailingAllocation> failing;

}  // namespace

void fail_allocation(long nth) { failing.emplace(static_cast<uint64_t>(nth)); }

int stop_failing_allocations(void) {
  const bool has_happened = failing->has_happened();
  failing.reset();
  return has_happened;
}

uint64_t allocations_so_far(void) { return outrigger::heap_allocations(); }

void check_that(int holds, const char* what, const char* file, int line) {
  if (holds) {
    SUCCEED();
  } else {
    FAIL_CHECK(file << ":" << line << ": " << what);
  }
}

const char* tiny_model_path(void) { return OTR_SOURCE_DIR "/tests/golden/logits/tied-q4_1.gguf"; }
const char* other_model_path(void) { return OTR_SOURCE_DIR "/tests/golden/logits/llama3-mixed.gguf"; }
const char* mixture_model_path(void) { return OTR_SOURCE_DIR "/tests/golden/logits/mixture-f16.gguf"; }
const char* float16_file_path(void) { return OTR_SOURCE_DIR "/tests/golden/logits/llama-biases.gguf"; }
const char* float16_folder_path(void) { return OTR_SOURCE_DIR "/tests/golden/hf/llama-biases"; }

const char* dense_model_path(void) {
  static const std::string path = scratch_path("dense.gguf");
  static const std::vector<std::byte> bytes = outrigger::testing::random_dense();
  std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  return path.c_str();
}

const char* scratch_path(const char* name) {
  static const ScratchFolder folder;
  static std::string path;
  path = folder.file(name);
  return path.c_str();
}

TEST_CASE("C: the library says what it is") { the_library_says_what_it_is(); }
TEST_CASE("C: a model says what it is") { a_model_says_what_it_is(); }
TEST_CASE("C: a model opens from memory") { a_model_opens_from_memory(); }
TEST_CASE("C: a directory is a model too") { a_directory_is_a_model_too(); }
TEST_CASE("C: a model is compressed, what was used is told, and it can be stopped at that") { a_model_is_compressed(); }
TEST_CASE("C: a compressed model is exported, what was written is told, and it can be stopped at that") { a_model_is_exported(); }
TEST_CASE("C: a model is packed, computes the same, and can be stopped at that") { a_model_is_packed(); }
TEST_CASE("C: text becomes tokens and comes back") { text_becomes_tokens_and_comes_back(); }
TEST_CASE("C: a text stream never splits a character") { a_text_stream_never_splits_a_character(); }
TEST_CASE("C: a chat becomes tokens") { a_chat_becomes_tokens(); }
TEST_CASE("C: a profile survives JSON") { a_profile_survives_json(); }
TEST_CASE("C: a plan survives JSON") { a_plan_survives_json(); }
TEST_CASE("C: a profile with a device makes plans for it") { a_profile_with_a_device_makes_plans_for_it(); }
TEST_CASE("C: a draft model computes on the device, in bytes that are asked for") { a_draft_model_computes_on_the_device(); }
TEST_CASE("C: what a draft model would give is told before it drafts") { a_draft_is_forecast(); }
TEST_CASE("C: a draft pays where weights stream") { a_draft_pays_where_weights_stream(); }
TEST_CASE("C: what was generated becomes a page") { what_was_generated_becomes_a_page(); }
TEST_CASE("C: a plan becomes a picture") { a_plan_becomes_a_picture(); }
TEST_CASE("C: a budget error says what would do") { a_budget_error_says_what_would_do(); }
TEST_CASE("C: copies of what streams draft") { copies_of_what_streams_draft(); }
TEST_CASE("C: a plan without a profile measures once") { a_plan_without_a_profile_measures_once(); }
TEST_CASE("C: an engine loads and reports") { an_engine_loads_and_reports(); }
TEST_CASE("C: loading can be cancelled") { loading_can_be_cancelled(); }
TEST_CASE("C: keys and values can be on disk") { keys_and_values_can_be_on_disk(); }
TEST_CASE("C: an engine can be planned anew") { an_engine_can_be_planned_anew(); }
TEST_CASE("C: a mixture tells how texts come back to its experts") { a_mixture_tells_how_texts_come_back_to_its_experts(); }
TEST_CASE("C: an engine refuses what does not fit") { an_engine_refuses_what_does_not_fit(); }
TEST_CASE("C: handles close in any order") { handles_close_in_any_order(); }
TEST_CASE("C: an engine keeps a trace") { an_engine_keeps_a_trace(); }
TEST_CASE("C: generating equals stepping") { generating_equals_stepping(); }
TEST_CASE("C: drafts change no token, and the result tells what they did") { drafts_change_no_token(); }
TEST_CASE("C: drafts that cannot be are refused by name") { drafts_are_refused_by_name(); }
TEST_CASE("C: a callback stops generation") { a_callback_stops_generation(); }
TEST_CASE("C: another thread stops generation") { another_thread_stops_generation(); }
TEST_CASE("C: a stop text ends generation") { a_stop_text_ends_generation(); }
TEST_CASE("C: a full context ends generation") { a_full_context_ends_generation(); }
TEST_CASE("C: evaluation gives every token's logits") { evaluation_gives_every_tokens_logits(); }
TEST_CASE("C: prefill reports progress") { prefill_reports_progress(); }
TEST_CASE("C: a state is saved and restored") { a_state_is_saved_and_restored(); }
TEST_CASE("C: a fork goes its own way") { a_fork_goes_its_own_way(); }
TEST_CASE("C: a sampler follows its options") { a_sampler_follows_its_options(); }
TEST_CASE("C: a session follows the load") { a_session_follows_the_load(); }
TEST_CASE("C: a batch follows the load") { a_batch_follows_the_load(); }
TEST_CASE("C: a batch equals its texts alone") { a_batch_equals_its_texts_alone(); }
TEST_CASE("C: a batch tells each text its own error") { a_batch_tells_each_text_its_own_error(); }
TEST_CASE("C: sessions step together") { sessions_step_together(); }
TEST_CASE("C: a NULL is an error") { a_null_is_an_error(); }
TEST_CASE("C: a wrong struct size is an error") { a_wrong_struct_size_is_an_error(); }
TEST_CASE("C: other versions of a struct are understood") { other_versions_of_a_struct_are_understood(); }
TEST_CASE("C: a wrong order is an error") { a_wrong_order_is_an_error(); }
TEST_CASE("C: a session is busy in its own callbacks") { a_session_is_busy_in_its_own_callbacks(); }
TEST_CASE("C: closing twice does nothing") { closing_twice_does_nothing(); }
TEST_CASE("C: an error is cut at a character") { an_error_is_cut_at_a_character(); }
TEST_CASE("C: a log sink comes and goes") { a_log_sink_comes_and_goes(); }
TEST_CASE("C: running out of memory is an error") { running_out_of_memory_is_an_error(); }
TEST_CASE("C: a step allocates nothing") { a_step_allocates_nothing(); }
