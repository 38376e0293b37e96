// C API: samplers.
#include "capi/capi_generation.h"

using outrigger::Sampler;
using outrigger::SamplingOptions;
using outrigger::Status;
using namespace outrigger::capi;  // NOLINT: this file is the C side of that namespace

namespace {

otr_sampling_options sampling_defaults() {
  const SamplingOptions greedy;
  otr_sampling_options options = {};
  options.struct_size = sizeof options;
  options.temperature = greedy.temperature;
  options.top_k = greedy.top_k;
  options.top_p = greedy.top_p;
  options.min_p = greedy.min_p;
  options.repeat_penalty = greedy.repeat_penalty;
  options.repeat_last_tokens = greedy.repeat_last_tokens;
  options.seed = greedy.seed;
  return options;
}

}  // namespace

namespace outrigger::capi {

Status read_sampling(const otr_sampling_options* given, const char* what, SamplingOptions* sampling) {
  otr_sampling_options known = sampling_defaults();
  OTR_CAPI_TRY(read_options(given, what, &known));
  OTR_CAPI_TRY(check_reserved(known.reserved, what));
  sampling->temperature = known.temperature;
  sampling->top_k = known.top_k;
  sampling->top_p = known.top_p;
  sampling->min_p = known.min_p;
  sampling->repeat_penalty = known.repeat_penalty;
  sampling->repeat_last_tokens = known.repeat_last_tokens;
  sampling->seed = known.seed;
  return {};
}

}  // namespace outrigger::capi

void otr_sampling_options_init(otr_sampling_options* options, uint32_t struct_size) { init(options, struct_size, sampling_defaults()); }

otr_status otr_sampler_create(const otr_sampling_options* options, otr_sampler** sampler, otr_error* error) {
  if (sampler != nullptr) *sampler = nullptr;
  return guard(error, [&]() -> Status {
    OTR_CAPI_TRY(require(sampler, "sampler"));
    SamplingOptions wanted;
    OTR_CAPI_TRY(read_sampling(options, "options", &wanted));
    return give_handle(Sampler::create(wanted), sampler);
  });
}

otr_status otr_sampler_sample(otr_sampler* sampler, const float* logits, size_t logit_count, const int32_t* history, size_t history_count,
                              int32_t* token, otr_error* error) {
  return guard(error, [&]() -> Status {
    OTR_CAPI_TRY(require(sampler, "sampler"));
    OTR_CAPI_TRY(require_array(logits, logit_count, "logits"));
    OTR_CAPI_TRY(require_array(history, history_count, "history"));
    OTR_CAPI_TRY(require(token, "token"));
    OTR_CAPI_ASSIGN(drawn, sampler->sampler.sample(std::span(logits, logit_count), std::span(history, history_count)));
    *token = drawn;
    return {};
  });
}

void otr_sampler_close(otr_sampler** sampler) { close(sampler); }
