// C API: many texts at once.
#include <outrigger/batch.h>

#include "capi/capi_generation.h"

using outrigger::BatchOptions;
using outrigger::BatchRequest;
using outrigger::GenerateResult;
using outrigger::Status;
using namespace outrigger::capi;  // NOLINT: this file is the C side of that namespace

struct otr_batch {
  const outrigger::BatchResult made;
  const std::vector<size_t> prompt_tokens;
};

namespace {

otr_batch_options batch_defaults() {
  otr_batch_options options = {};
  options.struct_size = sizeof options;
  options.branch_share = outrigger::SessionOptions::kAsPlanned;
  return options;
}

Status read_batch_options(const otr_batch_options* given, BatchOptions* wanted) {
  otr_batch_options known = batch_defaults();
  OTR_CAPI_TRY(read_options(given, "batch_options", &known));
  wanted->sequences = known.sequences;
  wanted->context_tokens = known.context_tokens;
  wanted->branch_share = known.branch_share;
  wanted->groups = known.groups;
  wanted->cancel = token_of(known.cancel);
  if (known.follow_load != nullptr)
    OTR_CAPI_TRY(read_follow_load(known.follow_load, "batch_options.follow_load", &wanted->follow_load.emplace()));
  return {};
}

Status read_requests(const int32_t* const* prompts, const size_t* prompt_counts, size_t count, const otr_generate_options* const* options,
                     std::vector<BatchRequest>* requests) {
  OTR_CAPI_TRY(require_array(prompts, count, "prompts"));
  OTR_CAPI_TRY(require_array(prompt_counts, count, "prompt_counts"));
  requests->resize(count);
  for (size_t i = 0; i < count; ++i) {
    BatchRequest& request = (*requests)[i];
    OTR_CAPI_TRY(require_array(prompts[i], prompt_counts[i], "a prompt of prompts"));
    if (prompt_counts[i] > 0) request.prompt.assign(prompts[i], prompts[i] + prompt_counts[i]);
    OTR_CAPI_TRY(read_generate_options(options == nullptr ? nullptr : options[i], &request.options));
  }
  return {};
}

// The text, or why there is none.
Status text_of(const otr_batch* batch, size_t index, const GenerateResult** text) {
  OTR_CAPI_TRY(require(batch, "batch"));
  const auto& results = batch->made.results;
  if (index >= results.size())
    return invalid("index: got " + std::to_string(index) + ", need less than the " + std::to_string(results.size()) +
                   " texts of the batch");
  OTR_CAPI_TRY(results[index].status());
  *text = &results[index].value();
  return {};
}

}  // namespace

void otr_batch_options_init(otr_batch_options* options, uint32_t struct_size) { init(options, struct_size, batch_defaults()); }

otr_status otr_batch_generate(const otr_engine* engine, const int32_t* const* prompts, const size_t* prompt_counts, size_t count,
                              const otr_generate_options* const* options, const otr_batch_options* batch_options, otr_batch** batch,
                              otr_error* error) {
  if (batch != nullptr) *batch = nullptr;
  return guard(error, [&]() -> Status {
    OTR_CAPI_TRY(require(engine, "engine"));
    OTR_CAPI_TRY(require(batch, "batch"));
    BatchOptions wanted;
    OTR_CAPI_TRY(read_batch_options(batch_options, &wanted));
    std::vector<BatchRequest> requests;
    OTR_CAPI_TRY(read_requests(prompts, prompt_counts, count, options, &requests));
    std::vector<size_t> prompt_tokens(prompt_counts, prompt_counts + count);
    OTR_CAPI_ASSIGN(made, outrigger::generate_batch(engine->engine, requests, wanted));
    *batch = new otr_batch{std::move(made), std::move(prompt_tokens)};
    return {};
  });
}

otr_status otr_batch_get_report(const otr_batch* batch, otr_batch_report* report, otr_error* error) {
  return guard(error, [&]() -> Status {
    OTR_CAPI_TRY(require(batch, "batch"));
    OTR_CAPI_TRY(check_info(report, "report"));
    const outrigger::BatchReport& made = batch->made.report;
    otr_batch_report full = {};
    full.most_at_once = made.most_at_once;
    full.texts = batch->made.results.size();
    full.steps = made.steps;
    full.step_tokens = made.step_tokens;
    full.prompt_tokens = made.prompt_tokens;
    full.generated_tokens = made.generated_tokens;
    full.total_ms = made.total_ms;
    full.total_tokens_per_s = made.total_tokens_per_s;
    full.following_steps = made.branches.steps;
    full.mean_branch_share = made.branches.mean_share;
    full.branch_slowdown = made.branches.slowdown;
    full.alternated_steps = made.alternated_steps;
    give_info(full, report);
    return {};
  });
}

otr_status otr_batch_get_result(const otr_batch* batch, size_t index, otr_generate_result* result, otr_error* error) {
  return guard(error, [&]() -> Status {
    OTR_CAPI_TRY(check_info(result, "result"));
    const GenerateResult* text = nullptr;
    OTR_CAPI_TRY(text_of(batch, index, &text));
    give_info(result_of(*text, batch->prompt_tokens[index]), result);
    return {};
  });
}

otr_status otr_batch_get_tokens(const otr_batch* batch, size_t index, int32_t* tokens, size_t capacity, size_t* count, otr_error* error) {
  return guard(error, [&]() -> Status {
    OTR_CAPI_TRY(require(count, "count"));
    const GenerateResult* text = nullptr;
    OTR_CAPI_TRY(text_of(batch, index, &text));
    return give_array<int32_t>(text->tokens, tokens, capacity, count);
  });
}

otr_status otr_batch_get_text(const otr_batch* batch, size_t index, char* text, size_t capacity, size_t* bytes, otr_error* error) {
  return guard(error, [&]() -> Status {
    OTR_CAPI_TRY(require(bytes, "bytes"));
    const GenerateResult* made = nullptr;
    OTR_CAPI_TRY(text_of(batch, index, &made));
    return give_text(made->text, text, capacity, bytes);
  });
}

void otr_batch_close(otr_batch** batch) { close(batch); }
