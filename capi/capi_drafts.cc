// C API: draft models, before they draft.
#include <outrigger/draft_forecast.h>
#include <outrigger/speculation.h>

#include <algorithm>

#include "capi/capi_common.h"

using outrigger::Plan;
using outrigger::Status;
using namespace outrigger::capi;  // NOLINT: this file is the C side of that namespace

namespace {

// Steps in the middle of what the plan's own are predicted for.
outrigger::DraftSteps steps_of(const Plan& plan) {
  const double position = std::clamp(plan.decode.position, 0.0, static_cast<double>(plan.context_tokens));
  return {plan.context_tokens, static_cast<uint32_t>(2 * (plan.context_tokens - position)), std::max(1u, plan.batch)};
}

}  // namespace

otr_status otr_model_draft_bytes(const otr_model* draft, uint32_t context_tokens, uint32_t threads, uint64_t* bytes, otr_error* error) {
  return otr_model_draft_batch_bytes(draft, context_tokens, threads, 1, bytes, error);
}

otr_status otr_model_draft_batch_bytes(const otr_model* draft, uint32_t context_tokens, uint32_t threads, uint32_t texts, uint64_t* bytes,
                                       otr_error* error) {
  if (bytes != nullptr) *bytes = 0;
  return guard(error, [&]() -> Status {
    OTR_CAPI_TRY(require(draft, "draft"));
    OTR_CAPI_TRY(require(bytes, "bytes"));
    OTR_CAPI_ASSIGN(needed, outrigger::draft_model_bytes(draft->model, context_tokens, threads, texts));
    *bytes = needed;
    return {};
  });
}

otr_status otr_model_draft_device_bytes(const otr_model* draft, const otr_profile* profile, uint32_t context_tokens, uint32_t texts,
                                        uint64_t* host_bytes, uint64_t* device_bytes, otr_error* error) {
  for (uint64_t* const bytes : {host_bytes, device_bytes}) {
    if (bytes != nullptr) *bytes = 0;
  }
  return guard(error, [&]() -> Status {
    OTR_CAPI_TRY(require(draft, "draft"));
    OTR_CAPI_TRY(require(profile, "profile"));
    OTR_CAPI_TRY(require(host_bytes, "host_bytes"));
    OTR_CAPI_TRY(require(device_bytes, "device_bytes"));
    const outrigger::MachineProfile& machine = profile->profile;
    if (machine.device_threads == 0) return invalid("profile: has no device, need one for a draft to compute on");
    OTR_CAPI_ASSIGN(needed,
                    outrigger::draft_model_device_bytes(draft->model, context_tokens, machine.threads, machine.device_threads, texts));
    *host_bytes = needed.host;
    *device_bytes = needed.device;
    return {};
  });
}

otr_status otr_plan_forecast_draft(const otr_plan* plan, const otr_model* model, const otr_model* draft, const otr_profile* profile,
                                   const double* accepted, size_t count, otr_draft_forecast* forecast, otr_error* error) {
  return guard(error, [&]() -> Status {
    OTR_CAPI_TRY(require(plan, "plan"));
    OTR_CAPI_TRY(require(model, "model"));
    OTR_CAPI_TRY(require(draft, "draft"));
    OTR_CAPI_TRY(check_info(forecast, "forecast"));
    OTR_CAPI_TRY(require_array(accepted, count, "accepted"));
    if (count > outrigger::kMostDraftTokens) {
      return invalid("count: got " + std::to_string(count) + ", need at most " + std::to_string(outrigger::kMostDraftTokens));
    }
    OTR_CAPI_ASSIGN(shape, model->model.step_shape());
    OTR_CAPI_ASSIGN(machine, profile_for(model, profile, plan->plan.threads));
    OTR_CAPI_ASSIGN(expectation,
                    outrigger::untried_draft(draft->model, machine, steps_of(plan->plan), plan->plan.device.breakdown.draft > 0));
    if (accepted != nullptr) {
      expectation.accepted = {};
      std::copy_n(accepted, count, expectation.accepted.begin());
    }
    OTR_CAPI_ASSIGN(made, outrigger::forecast_draft(plan->plan, shape, machine, expectation));
    otr_draft_forecast full = {};
    full.tokens = made.tokens;
    full.groups = made.groups;
    full.tokens_per_pass = made.tokens_per_pass;
    full.tokens_per_s = made.tokens_per_s;
    full.plain_tokens_per_s = made.plain_tokens_per_s;
    full.draft_step_ms = expectation.step_ms;
    full.draft_read_ms = expectation.read_ms;
    give_info(full, forecast);
    return {};
  });
}
