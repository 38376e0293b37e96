// C API: machine profiles and plans.
#include "capi/capi_common.h"

using outrigger::MachineProfile;
using outrigger::Plan;
using outrigger::Result;
using outrigger::Status;
using namespace outrigger::capi;  // NOLINT: this file is the C side of that namespace

namespace {

// A plan's placement hardly depends on the last tenth of a rate: 30 ms a lane keep the first plan well below a second.
constexpr double kQuickSecondsPerLane = 0.03;

otr_profile_options profile_defaults() {
  const outrigger::ProfileOptions defaults;
  return {sizeof(otr_profile_options), defaults.threads, nullptr, defaults.seconds_per_lane};
}

otr_plan_options plan_defaults() {
  const outrigger::Workload workload;
  otr_plan_options options = {};
  options.struct_size = sizeof options;
  options.host_budget_bytes = options.device_budget_bytes = OTR_BUDGET_DEFAULT;
  options.prompt_tokens = workload.prompt_tokens;
  options.new_tokens = workload.new_tokens;
  options.batch = workload.batch;
  options.logit_rows = workload.logit_rows;
  options.kv_type = static_cast<int32_t>(workload.kv_type);
  options.kv_spilled_layers = workload.kv_spilled_layers;
  options.corrections = static_cast<int32_t>(workload.corrections);
  options.max_slowdown = workload.max_slowdown;
  options.expert_repetition = workload.expert_repetition;
  return options;
}

// Several threads that plan for one model wait for one measurement: two at once would halve each other's rates.
Result<MachineProfile> measured_profile(const otr_model* model, uint32_t threads) {
  const std::lock_guard lock(model->profiles_mutex);
  const auto known = model->profiles.find(threads);
  if (known != model->profiles.end()) return known->second;
  outrigger::ProfileOptions options;
  options.threads = threads;
  options.seconds_per_lane = kQuickSecondsPerLane;
  if (!model->in_memory) options.disk_path = model->model.info().file;
  OTR_CAPI_ASSIGN(profile, outrigger::measure_machine(options));
  if (model->in_memory) {
    profile.disk_bytes = profile.host_stream_bytes;
    profile.disk_bytes.how = "the model's file is in memory";
  }
  model->profiles[threads] = profile;
  return profile;
}

template <typename Handle, typename T>
Status give_from_json(Result<T> (*parse)(const std::string&), const char* json, size_t json_bytes, Handle** handle) {
  OTR_CAPI_TRY(require_array(json, json_bytes, "json"));
  OTR_CAPI_TRY(require(handle, "the handle's address"));
  return give_handle(parse(std::string(json_bytes > 0 ? json : "", json_bytes)), handle);
}

using Draw = Result<std::string> (*)(const Plan&, const outrigger::StepShape&, const MachineProfile&);

Status give_drawing(Draw draw, const otr_plan* plan, const otr_model* model, const otr_profile* profile, char* text, size_t capacity,
                    size_t* bytes) {
  OTR_CAPI_TRY(require(plan, "plan"));
  OTR_CAPI_TRY(require(model, "model"));
  OTR_CAPI_TRY(require(bytes, "bytes"));
  OTR_CAPI_ASSIGN(shape, model->model.step_shape());
  OTR_CAPI_ASSIGN(machine, profile_for(model, profile, plan->plan.threads));
  OTR_CAPI_ASSIGN(drawn, draw(plan->plan, shape, machine));
  return give_text(drawn, text, capacity, bytes);
}

}  // namespace

namespace outrigger::capi {

Result<MachineProfile> profile_for(const otr_model* model, const otr_profile* given, uint32_t threads) {
  if (given == nullptr) return measured_profile(model, threads);
  MachineProfile profile = given->profile;
  if (threads != 0) profile.threads = threads;
  return profile;
}

}  // namespace outrigger::capi

void otr_profile_options_init(otr_profile_options* options, uint32_t struct_size) { init(options, struct_size, profile_defaults()); }

otr_status otr_profile_measure(const otr_profile_options* options, otr_profile** profile, otr_error* error) {
  if (profile != nullptr) *profile = nullptr;
  return guard(error, [&]() -> Status {
    OTR_CAPI_TRY(require(profile, "profile"));
    otr_profile_options known = profile_defaults();
    OTR_CAPI_TRY(read_options(options, "options", &known));
    // Not an hour by mistake, and not a NaN.
    if (!(known.seconds_per_lane > 0 && known.seconds_per_lane <= 60)) {
      return invalid("options.seconds_per_lane: got " + std::to_string(known.seconds_per_lane) + ", need more than 0 and at most 60");
    }
    outrigger::ProfileOptions wanted;
    wanted.threads = known.threads;
    wanted.disk_path = known.disk_path != nullptr ? known.disk_path : "";
    wanted.seconds_per_lane = known.seconds_per_lane;
    return give_handle(outrigger::measure_machine(wanted), profile);
  });
}

otr_status otr_profile_from_json(const char* json, size_t json_bytes, otr_profile** profile, otr_error* error) {
  if (profile != nullptr) *profile = nullptr;
  return guard(error, [&] { return give_from_json(outrigger::profile_from_json, json, json_bytes, profile); });
}

otr_status otr_profile_to_json(const otr_profile* profile, char* json, size_t capacity, size_t* bytes, otr_error* error) {
  return guard(error, [&]() -> Status {
    OTR_CAPI_TRY(require(profile, "profile"));
    OTR_CAPI_TRY(require(bytes, "bytes"));
    return give_text(outrigger::profile_to_json(profile->profile), json, capacity, bytes);
  });
}

void otr_profile_close(otr_profile** profile) { close(profile); }

void otr_plan_options_init(otr_plan_options* options, uint32_t struct_size) { init(options, struct_size, plan_defaults()); }

otr_status otr_plan_make(const otr_model* model, const otr_profile* profile, const otr_plan_options* options, otr_plan** plan,
                         otr_error* error) {
  if (plan != nullptr) *plan = nullptr;
  return guard(error, [&]() -> Status {
    OTR_CAPI_TRY(require(model, "model"));
    OTR_CAPI_TRY(require(plan, "plan"));
    otr_plan_options known = plan_defaults();
    OTR_CAPI_TRY(read_options(options, "options", &known));
    if (known.kv_type != OTR_KV_F16 && known.kv_type != OTR_KV_F32 && known.kv_type != OTR_KV_Q8_0) {
      return invalid("options.kv_type: got " + std::to_string(known.kv_type) + ", need 0 (float16), 1 (float32) or 2 (q8_0)");
    }
    OTR_CAPI_ASSIGN(shape, model->model.step_shape());
    outrigger::Workload workload;
    workload.prompt_tokens = known.prompt_tokens;
    workload.new_tokens = known.new_tokens;
    workload.batch = known.batch;
    workload.context_tokens = known.context_tokens;
    workload.logit_rows = known.logit_rows;
    workload.kv_type = static_cast<outrigger::KvType>(known.kv_type);
    workload.kv_spilled_layers = known.kv_spilled_layers;
    workload.corrections = static_cast<outrigger::CorrectionPlace>(known.corrections);
    workload.max_slowdown = known.max_slowdown < 0 ? outrigger::Workload::kAnySlowdown : known.max_slowdown;
    workload.draft_tokens = known.draft_tokens;
    workload.draft_bytes = known.draft_bytes;
    workload.draft_device_bytes = known.draft_device_bytes;
    workload.stand_ins = static_cast<outrigger::StandIns>(known.stand_ins);
    workload.expert_repetition = known.expert_repetition;
    OTR_CAPI_ASSIGN(machine, profile_for(model, profile, known.threads));
    outrigger::Budgets budgets;
    budgets.host_bytes = known.host_budget_bytes == OTR_BUDGET_DEFAULT ? outrigger::default_host_budget() : known.host_budget_bytes;
    budgets.device_bytes = known.device_budget_bytes;
    return give_handle(outrigger::PlacementPlanner::plan(shape, machine, budgets, workload), plan);
  });
}

otr_status otr_plan_from_json(const char* json, size_t json_bytes, otr_plan** plan, otr_error* error) {
  if (plan != nullptr) *plan = nullptr;
  return guard(error, [&] { return give_from_json(outrigger::plan_from_json, json, json_bytes, plan); });
}

otr_status otr_plan_to_json(const otr_plan* plan, char* json, size_t capacity, size_t* bytes, otr_error* error) {
  return guard(error, [&]() -> Status {
    OTR_CAPI_TRY(require(plan, "plan"));
    OTR_CAPI_TRY(require(bytes, "bytes"));
    return give_text(outrigger::plan_to_json(plan->plan), json, capacity, bytes);
  });
}

otr_status otr_plan_to_text(const otr_plan* plan, char* text, size_t capacity, size_t* bytes, otr_error* error) {
  return guard(error, [&]() -> Status {
    OTR_CAPI_TRY(require(plan, "plan"));
    OTR_CAPI_TRY(require(bytes, "bytes"));
    return give_text(outrigger::plan_to_text(plan->plan), text, capacity, bytes);
  });
}

otr_status otr_plan_to_svg(const otr_plan* plan, const otr_model* model, const otr_profile* profile, char* svg, size_t capacity,
                           size_t* bytes, otr_error* error) {
  return guard(error, [&] { return give_drawing(outrigger::plan_to_svg, plan, model, profile, svg, capacity, bytes); });
}

otr_status otr_plan_to_html(const otr_plan* plan, const otr_model* model, const otr_profile* profile, char* html, size_t capacity,
                            size_t* bytes, otr_error* error) {
  return guard(error, [&] { return give_drawing(outrigger::plan_to_html, plan, model, profile, html, capacity, bytes); });
}

otr_status otr_plan_get_summary(const otr_plan* plan, otr_plan_summary* summary, otr_error* error) {
  return guard(error, [&]() -> Status {
    OTR_CAPI_TRY(require(plan, "plan"));
    OTR_CAPI_TRY(check_info(summary, "summary"));
    const Plan& known = plan->plan;
    otr_plan_summary full = {};
    full.threads = known.threads;
    full.host_budget_bytes = known.host.budget_bytes;
    full.host_planned_bytes = known.host.planned_bytes;
    full.host_minimum_bytes = known.minimum_host_bytes;
    full.device_budget_bytes = known.device.budget_bytes;
    full.device_planned_bytes = known.device.planned_bytes;
    full.device_minimum_bytes = known.minimum_device_bytes;
    for (const outrigger::TensorPlacement& tensor : known.tensors) {
      ++(tensor.mode == outrigger::Residence::kResident ? full.resident_tensors : full.streamed_tensors);
    }
    full.streamed_bytes_per_token = known.decode.streamed_bytes;
    full.predicted_prefill_ms = known.predicted_prefill_ms;
    full.predicted_decode_tokens_per_s = known.predicted_decode_tokens_per_s;
    full.binding_lane = known.binding_lane.c_str();
    full.batch = known.batch;
    full.context_tokens = known.context_tokens;
    full.logit_rows = known.logit_rows;
    full.step_tokens = known.step_tokens;
    full.kv_type = static_cast<int32_t>(known.kv_type);
    for (const outrigger::TensorPlacement& tensor : known.tensors) {
      if (tensor.tier != outrigger::Tier::kDevice) continue;
      ++(tensor.mode == outrigger::Residence::kResident ? full.device_resident_tensors : full.device_streamed_tensors);
    }
    full.device_bytes_per_token = known.decode.h2d_bytes;
    full.device_from_tokens = known.device_from_tokens;
    full.device_slots = known.device_slots;
    full.device_slot_bytes = known.device_slot_bytes;
    full.kv_layers = known.kv_layers;
    full.kv_spilled_layers = known.kv_spilled_layers;
    full.kv_spill_bytes = known.kv_spill_bytes;
    full.kv_disk_bytes_per_token = known.decode.kv_disk_bytes;
    full.self_draft_bits = known.self_draft_bits;
    full.draft_bytes = known.host.breakdown.draft;
    full.draft_device_bytes = known.device.breakdown.draft;
    full.draft_tokens_per_pass = known.draft_tokens_per_pass;
    full.predicted_draft_tokens_per_s = known.predicted_draft_tokens_per_s;
    give_info(full, summary);
    return {};
  });
}

void otr_plan_close(otr_plan** plan) { close(plan); }
