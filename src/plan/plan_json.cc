// plan_to_json and plan_from_json: the tool's document, with what a replay needs beside it.
#include <outrigger/plan.h>

#include <nlohmann/json.hpp>

#include "src/base/json_fields.h"
#include "src/base/macros.h"

namespace outrigger {
namespace {

using Json = nlohmann::ordered_json;

Json tier_json(const TierPlan& tier) {
  const TierBreakdown& parts = tier.breakdown;
  return {{"budget_bytes", tier.budget_bytes},
          {"planned_bytes", tier.planned_bytes},
          {"breakdown",
           {{"weights_resident", parts.weights_resident},
            {"stream_slots", parts.stream_slots},
            {"kv_cache", parts.kv_cache},
            {"activations", parts.activations},
            {"draft", parts.draft},
            {"branches", parts.branches},
            {"experts", parts.experts},
            {"other", parts.other}}}};
}

Json step_json(const StepPrediction& step) {
  const LaneTimes& lanes = step.lanes;
  return {{"lanes", {{"disk_ms", lanes.disk_ms}, {"h2d_ms", lanes.h2d_ms}, {"host_ms", lanes.host_ms}, {"device_ms", lanes.device_ms}}},
          {"predicted_ms", step.predicted_ms},
          {"tokens", step.tokens},
          {"streamed_bytes", step.streamed_bytes},
          {"expert_bytes", step.expert_bytes},
          {"h2d_bytes", step.h2d_bytes},
          {"kv_disk_bytes", step.kv_disk_bytes},
          {"position", step.position},
          {"logit_rows", step.logit_rows},
          {"sequences", step.sequences}};
}

Json tensors_json(const Plan& plan) {
  Json tensors = Json::array();
  for (const TensorPlacement& tensor : plan.tensors) {
    tensors.push_back({{"name", tensor.name},
                       {"bytes", tensor.bytes},
                       {"file_bytes", tensor.file_bytes},
                       {"home", tier_name(Tier::kDisk)},
                       {"tier", tier_name(tensor.tier)},
                       {"mode", residence_name(tensor.mode)},
                       {"compute", tier_name(tensor.compute)}});
    if (!tensor.is_corrected) tensors.back()["corrected"] = false;
  }
  return tensors;
}

Json alternatives_json(const Plan& plan) {
  Json alternatives = Json::array();
  for (const PlanAlternative& other : plan.alternatives) {
    alternatives.push_back({{"what", other.what},
                            {"host_bytes", other.host_bytes},
                            {"device_bytes", other.device_bytes},
                            {"predicted_decode_tokens_per_s", other.predicted_decode_tokens_per_s}});
  }
  return alternatives;
}

Status read_tier(const JsonFields& json, TierPlan* tier) {
  OTR_TRY(json.read("budget_bytes", &tier->budget_bytes));
  OTR_TRY(json.read("planned_bytes", &tier->planned_bytes));
  OTR_ASSIGN(const JsonFields parts, json.object("breakdown"));
  TierBreakdown& breakdown = tier->breakdown;
  OTR_TRY(parts.read("weights_resident", &breakdown.weights_resident));
  OTR_TRY(parts.read("stream_slots", &breakdown.stream_slots));
  OTR_TRY(parts.read("kv_cache", &breakdown.kv_cache));
  OTR_TRY(parts.read("activations", &breakdown.activations));
  OTR_TRY(parts.read("draft", &breakdown.draft));
  OTR_TRY(parts.read("branches", &breakdown.branches));
  OTR_TRY(parts.read("experts", &breakdown.experts));
  return parts.read("other", &breakdown.other);
}

Status read_step(const JsonFields& json, StepPrediction* step) {
  OTR_ASSIGN(const JsonFields lanes, json.object("lanes"));
  OTR_TRY(lanes.read("disk_ms", &step->lanes.disk_ms));
  OTR_TRY(lanes.read("h2d_ms", &step->lanes.h2d_ms));
  OTR_TRY(lanes.read("host_ms", &step->lanes.host_ms));
  OTR_TRY(lanes.read("device_ms", &step->lanes.device_ms));
  OTR_TRY(json.read("predicted_ms", &step->predicted_ms));
  OTR_TRY(json.read("tokens", &step->tokens));
  OTR_TRY(json.read("streamed_bytes", &step->streamed_bytes));
  OTR_TRY(json.read("expert_bytes", &step->expert_bytes));
  // Not in the first plans that were saved.
  if (json.has("kv_disk_bytes")) OTR_TRY(json.read("kv_disk_bytes", &step->kv_disk_bytes));
  if (json.has("position")) OTR_TRY(json.read("position", &step->position));
  if (json.has("logit_rows")) OTR_TRY(json.read("logit_rows", &step->logit_rows));
  if (json.has("sequences")) OTR_TRY(json.read("sequences", &step->sequences));
  if (json.has("h2d_bytes")) OTR_TRY(json.read("h2d_bytes", &step->h2d_bytes));
  return {};
}

constexpr JsonNames<Tier, 3> kTiers = {{{"disk", Tier::kDisk}, {"host", Tier::kHost}, {"device", Tier::kDevice}}};
constexpr JsonNames<KvType, 3> kKvTypes = {{{"f16", KvType::kF16}, {"f32", KvType::kF32}, {"q8_0", KvType::kQ8_0}}};
constexpr JsonNames<Residence, 2> kModes = {{{"resident", Residence::kResident}, {"streamed", Residence::kStreamed}}};

Status read_tensor(const JsonFields& json, Plan* plan) {
  TensorPlacement& tensor = plan->tensors.emplace_back();
  OTR_TRY(json.read("name", &tensor.name));
  OTR_TRY(json.read("bytes", &tensor.bytes));
  OTR_TRY(json.read("file_bytes", &tensor.file_bytes));
  OTR_TRY(json.read_name("tier", kTiers, &tensor.tier));
  OTR_TRY(json.read_name("mode", kModes, &tensor.mode));
  if (json.has("corrected")) OTR_TRY(json.read("corrected", &tensor.is_corrected));  // not in the first plans that were saved
  return json.read_name("compute", kTiers, &tensor.compute);
}

Status read_alternative(const JsonFields& json, Plan* plan) {
  PlanAlternative& other = plan->alternatives.emplace_back();
  OTR_TRY(json.read("what", &other.what));
  OTR_TRY(json.read("host_bytes", &other.host_bytes));
  if (json.has("device_bytes")) OTR_TRY(json.read("device_bytes", &other.device_bytes));
  return json.read("predicted_decode_tokens_per_s", &other.predicted_decode_tokens_per_s);
}

// Not in plans that were saved before there were devices.
Status read_device_stream(const JsonFields& json, Plan* plan) {
  if (!json.has("device_stream")) return {};
  OTR_ASSIGN(const JsonFields stream, json.object("device_stream"));
  OTR_TRY(stream.read("slots", &plan->device_slots));
  OTR_TRY(stream.read("slot_bytes", &plan->device_slot_bytes));
  OTR_TRY(stream.read("from_tokens", &plan->device_from_tokens));
  OTR_TRY(stream.read("threads", &plan->device_threads));
  if (stream.has("corrections_beside")) OTR_TRY(stream.read("corrections_beside", &plan->corrections_beside));
  if (stream.has("handoff_bytes")) OTR_TRY(stream.read("handoff_bytes", &plan->handoff_bytes));
  return stream.read("transfer_bytes", &plan->transfer_bytes);
}

// Not in the first plans that were saved.
Status read_kv(const JsonFields& json, Plan* plan) {
  if (!json.has("kv")) return {};
  OTR_ASSIGN(const JsonFields kv, json.object("kv"));
  OTR_TRY(kv.read("layers", &plan->kv_layers));
  OTR_TRY(kv.read("spilled_layers", &plan->kv_spilled_layers));
  OTR_TRY(kv.read("slots", &plan->kv_slots));
  OTR_TRY(kv.read("slot_bytes", &plan->kv_slot_bytes));
  return kv.read("spill_bytes", &plan->kv_spill_bytes);
}

// What there is room for; a plan says nothing of what a session then makes of it.
const char* draft_kind(const Plan& plan) {
  if (plan.self_draft_bits > 0) return "self";
  return plan.draft_tokens == 0 ? "none" : plan.host.breakdown.draft > 0 ? "model" : "any";
}

Json draft_json(const Plan& plan) {
  return {{"kind", draft_kind(plan)},
          {"tokens", plan.draft_tokens},
          {"bits", plan.self_draft_bits},
          {"expected_tokens_per_pass", plan.draft_tokens_per_pass},
          {"predicted_decode_tokens_per_s", plan.predicted_draft_tokens_per_s}};
}

Status read_draft(const JsonFields& json, Plan* plan) {
  OTR_ASSIGN(const JsonFields draft, json.object("draft"));
  OTR_TRY(draft.read("tokens", &plan->draft_tokens));
  if (!draft.has("bits")) return {};  // plans that were saved before there were copies
  OTR_TRY(draft.read("bits", &plan->self_draft_bits));
  OTR_TRY(draft.read("expected_tokens_per_pass", &plan->draft_tokens_per_pass));
  return draft.read("predicted_decode_tokens_per_s", &plan->predicted_draft_tokens_per_s);
}

Status read_plan(const JsonFields& json, Plan* plan) {
  bool feasible = false;
  OTR_TRY(json.read("feasible", &feasible));
  if (!feasible) return Status(StatusCode::kInvalidArgument, "plan JSON: feasible is false; only a feasible plan can be replayed");
  OTR_ASSIGN(const JsonFields minimum, json.object("minimum"));
  OTR_TRY(minimum.read("host_bytes", &plan->minimum_host_bytes));
  OTR_TRY(minimum.read("device_bytes", &plan->minimum_device_bytes));
  OTR_ASSIGN(const JsonFields tiers, json.object("tiers"));
  OTR_ASSIGN(const JsonFields host, tiers.object("host"));
  OTR_TRY(read_tier(host, &plan->host));
  OTR_ASSIGN(const JsonFields device, tiers.object("device"));
  OTR_TRY(read_tier(device, &plan->device));
  OTR_TRY(json.each("tensors", [plan](const JsonFields& tensor) { return read_tensor(tensor, plan); }));
  OTR_ASSIGN(const JsonFields step, json.object("step"));
  OTR_ASSIGN(const JsonFields decode, step.object("decode"));
  OTR_TRY(read_step(decode, &plan->decode));
  OTR_ASSIGN(const JsonFields prefill, step.object("prefill"));
  OTR_TRY(read_step(prefill, &plan->prefill));
  OTR_TRY(json.each("alternatives", [plan](const JsonFields& other) { return read_alternative(other, plan); }));
  OTR_TRY(json.read("predicted_prefill_ms", &plan->predicted_prefill_ms));
  OTR_TRY(json.read("predicted_decode_tokens_per_s", &plan->predicted_decode_tokens_per_s));
  OTR_TRY(json.read("binding_lane", &plan->binding_lane));
  OTR_TRY(json.read("threads", &plan->threads));
  OTR_TRY(json.read("batch", &plan->batch));
  OTR_TRY(json.read("context_tokens", &plan->context_tokens));
  OTR_TRY(json.read_name("kv_type", kKvTypes, &plan->kv_type));
  OTR_TRY(read_kv(json, plan));
  if (json.has("branch_share")) {
    double share = 0;
    OTR_TRY(json.read("branch_share", &share));
    plan->branch_share = static_cast<float>(share);
  }
  OTR_TRY(json.read("logit_rows", &plan->logit_rows));
  OTR_TRY(read_draft(json, plan));
  OTR_TRY(json.read("step_tokens", &plan->step_tokens));
  OTR_TRY(read_device_stream(json, plan));
  OTR_ASSIGN(const JsonFields stream, json.object("stream"));
  OTR_TRY(stream.read("slots", &plan->stream_slots));
  OTR_TRY(stream.read("slot_bytes", &plan->slot_bytes));
  OTR_TRY(stream.read("reads", &plan->reads));
  OTR_TRY(stream.read("staging_bytes", &plan->staging_bytes));
  OTR_TRY(stream.read("row_buffer_bytes", &plan->row_buffer_bytes));
  OTR_TRY(stream.read("expert_slots", &plan->expert_slots));
  OTR_TRY(stream.read("expert_slot_bytes", &plan->expert_slot_bytes));
  return stream.has("expert_repetition") ? stream.read("expert_repetition", &plan->expert_repetition) : Status();
}

}  // namespace

std::string plan_to_json(const Plan& plan) {
  const Json json = {
      {"feasible", true},
      {"minimum", {{"host_bytes", plan.minimum_host_bytes}, {"device_bytes", plan.minimum_device_bytes}}},
      {"tiers", {{"host", tier_json(plan.host)}, {"device", tier_json(plan.device)}}},
      {"tensors", tensors_json(plan)},
      {"step", {{"decode", step_json(plan.decode)}, {"prefill", step_json(plan.prefill)}}},
      {"draft", draft_json(plan)},
      {"alternatives", alternatives_json(plan)},
      {"predicted_prefill_ms", plan.predicted_prefill_ms},
      {"predicted_decode_tokens_per_s", plan.predicted_decode_tokens_per_s},
      {"binding_lane", plan.binding_lane},
      {"threads", plan.threads},
      {"batch", plan.batch},
      {"context_tokens", plan.context_tokens},
      {"kv_type", kv_type_name(plan.kv_type)},
      {"kv",
       {{"layers", plan.kv_layers},
        {"spilled_layers", plan.kv_spilled_layers},
        {"slots", plan.kv_slots},
        {"slot_bytes", plan.kv_slot_bytes},
        {"spill_bytes", plan.kv_spill_bytes}}},
      {"branch_share", plan.branch_share},
      {"logit_rows", plan.logit_rows},
      {"step_tokens", plan.step_tokens},
      {"stream",
       {{"slots", plan.stream_slots},
        {"slot_bytes", plan.slot_bytes},
        {"reads", plan.reads},
        {"staging_bytes", plan.staging_bytes},
        {"row_buffer_bytes", plan.row_buffer_bytes},
        {"expert_slots", plan.expert_slots},
        {"expert_slot_bytes", plan.expert_slot_bytes},
        {"expert_repetition", plan.expert_repetition}}},
      {"device_stream",
       {{"slots", plan.device_slots},
        {"slot_bytes", plan.device_slot_bytes},
        {"from_tokens", plan.device_from_tokens},
        {"threads", plan.device_threads},
        {"transfer_bytes", plan.transfer_bytes},
        {"handoff_bytes", plan.handoff_bytes},
        {"corrections_beside", plan.corrections_beside}}},
  };
  // A tensor's name comes from a file and need not be UTF-8: what is not is replaced, where the default is to throw.
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<Plan> plan_from_json(const std::string& text) {
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return Status(StatusCode::kInvalidArgument, "plan JSON: got something else, need one JSON object");
  Plan plan;
  OTR_TRY(read_plan(JsonFields("plan JSON", "", json), &plan));
  return plan;
}

}  // namespace outrigger
