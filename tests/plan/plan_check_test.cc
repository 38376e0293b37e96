// check_plan: every way to tamper with a plan is found, and named.
#include <functional>

#include "tests/support/random_shape.h"
#include "tests/support/catch.h"

namespace outrigger {
namespace {

Plan good_plan() { return PlacementPlanner::plan(small_model(), two_cores(), {64 << 20}, {}).value(); }

struct Tampering {
  const char* named;  // in the message
  std::function<void(Plan*)> change;
};

TEST_CASE("check_plan: accepts what the planner made") { REQUIRE(check_plan(good_plan(), small_model()).is_ok()); }

TEST_CASE("check_plan: refuses a plan that was changed anywhere, and says where") {
  const std::vector<Tampering> tamperings = {
      {"number of tensors", [](Plan* plan) { plan->tensors.pop_back(); }},
      {"blk.3.ffn_up.weight", [](Plan* plan) { plan->tensors[26].name = "blk.3.ffn_op.weight"; }},
      {"in the file", [](Plan* plan) { plan->tensors[5].bytes += 64; }},
      {"in the file", [](Plan* plan) { plan->tensors[5].file_bytes -= 1; }},
      {"need host", [](Plan* plan) { plan->tensors[0].tier = Tier::kDevice; }},
      {"need host", [](Plan* plan) { plan->tensors[0].compute = Tier::kDisk; }},
      {"streamed_bytes",
       [](Plan* plan) {
         plan->tensors[0].mode = plan->tensors[0].mode == Residence::kResident ? Residence::kStreamed : Residence::kResident;
       }},
      {"stream_slots", [](Plan* plan) { plan->stream_slots = 1; }},
      {"stream_slots", [](Plan* plan) { ++plan->stream_slots; }},
      {"slot_bytes", [](Plan* plan) { plan->slot_bytes = 4096; }},
      {"slot_bytes", [](Plan* plan) { plan->slot_bytes += 64; }},
      {"staging_bytes", [](Plan* plan) { plan->staging_bytes = 0; }},
      {"reads", [](Plan* plan) { ++plan->reads; }},
      {"expert_slots", [](Plan* plan) { plan->expert_slots = 2; }},
      {"expert_slot_bytes", [](Plan* plan) { plan->expert_slot_bytes = 4096; }},
      {"expert_repetition", [](Plan* plan) { plan->expert_repetition = 0.9; }},
      {"row_buffer_bytes", [](Plan* plan) { plan->row_buffer_bytes += 64; }},
      {"step_tokens", [](Plan* plan) { plan->step_tokens = 3; }},
      {"activations", [](Plan* plan) { plan->step_tokens = plan->step_tokens == 1 ? 2 : plan->step_tokens / 2; }},
      {"threads", [](Plan* plan) { plan->threads = 0; }},
      {"staging_bytes", [](Plan* plan) { ++plan->threads; }},
      {"kv_cache", [](Plan* plan) { ++plan->batch; }},
      {"kv_cache", [](Plan* plan) { plan->context_tokens += 16; }},
      {"kv_cache", [](Plan* plan) { plan->kv_type = KvType::kF32; }},
      {"kv_type", [](Plan* plan) { plan->kv_type = static_cast<KvType>(3); }},
      {"kv_cache", [](Plan* plan) { plan->kv_type = KvType::kQ8_0; }},
      {"context_tokens", [](Plan* plan) { plan->context_tokens = 8193; }},
      {"logit_rows", [](Plan* plan) { plan->logit_rows = 0; }},
      {"step.decode has", [](Plan* plan) { plan->decode.sequences = 0; }},
      {"step.decode has", [](Plan* plan) { plan->decode.sequences = plan->batch + 1; }},
      {"draft.tokens", [](Plan* plan) { plan->draft_tokens = plan->logit_rows; }},
      {"planned_bytes", [](Plan* plan) { plan->host.breakdown.draft = 4096; }},
      {"weights_resident", [](Plan* plan) { plan->host.breakdown.weights_resident -= 4096; }},
      {"stream_slots", [](Plan* plan) { plan->host.breakdown.stream_slots += 4096; }},
      {"other", [](Plan* plan) { plan->host.breakdown.other = 1; }},
      {"draft", [](Plan* plan) { plan->host.breakdown.draft = 1; }},
      {"branches", [](Plan* plan) { plan->host.breakdown.branches = 1; }},
      {"planned_bytes", [](Plan* plan) { plan->host.planned_bytes -= 4096; }},
      {"above the budget", [](Plan* plan) { plan->host.budget_bytes = plan->host.planned_bytes - 1; }},
      {"tiers.device.weights_resident", [](Plan* plan) { plan->device.breakdown.weights_resident = 4096; }},
      {"minimum.host_bytes", [](Plan* plan) { plan->minimum_host_bytes = plan->host.planned_bytes + 1; }},
      {"minimum.device_bytes", [](Plan* plan) { plan->minimum_device_bytes = 1; }},
      {"predicted time", [](Plan* plan) { plan->decode.predicted_ms = -1; }},
      {"predicted time", [](Plan* plan) { plan->predicted_decode_tokens_per_s = 0.0 / 0.0; }},
      {"binding_lane", [](Plan* plan) { plan->binding_lane = "d2h"; }},
  };
  const std::vector<Tampering> of_spilled = {
      {"kv_cache", [](Plan* plan) { plan->host.breakdown.kv_cache += 4096; }},
      {"kv.spill_bytes", [](Plan* plan) { --plan->kv_spilled_layers; }},
      {"kv.spilled_layers", [](Plan* plan) { plan->kv_spilled_layers = 31; }},
      {"kv.layers", [](Plan* plan) { plan->kv_layers = 29; }},
      {"kv.slots", [](Plan* plan) { plan->kv_slots = 3; }},
      {"kv.slots", [](Plan* plan) { plan->kv_spilled_layers = 0; }},
      {"kv.slot_bytes", [](Plan* plan) { plan->kv_slot_bytes += 4096; }},
      {"kv.slot_bytes", [](Plan* plan) { plan->context_tokens += 16; }},
      {"kv.slot_bytes", [](Plan* plan) { ++plan->batch; }},
      {"kv.spill_bytes", [](Plan* plan) { plan->kv_spill_bytes -= 4096; }},
      {"step.decode.kv_disk_bytes", [](Plan* plan) { plan->decode.kv_disk_bytes += 4096; }},
      {"step.prefill.kv_disk_bytes", [](Plan* plan) { plan->prefill.kv_disk_bytes = 0; }},
      {"step.decode.kv_disk_bytes", [](Plan* plan) { plan->decode.position = 1e300; }},
      {"predicted time", [](Plan* plan) { plan->decode.position = -1; }},
  };
  Workload spilled;
  spilled.kv_spilled_layers = 20;
  std::vector<std::pair<Tampering, Plan>> cases;
  for (const Tampering& tampering : tamperings) cases.emplace_back(tampering, good_plan());
  for (const Tampering& tampering : of_spilled)
    cases.emplace_back(tampering, PlacementPlanner::plan(small_model(), two_cores(), {64 << 20}, spilled).value());
  for (auto& [tampering, plan] : cases) {
    REQUIRE(check_plan(plan, small_model()).is_ok());
    tampering.change(&plan);
    const Status status = check_plan(plan, small_model());
    INFO("expected '" << tampering.named << "' in: " << status.to_string());
    REQUIRE(status.code() == StatusCode::kInvalidArgument);
    REQUIRE(status.to_string().find(tampering.named) != std::string::npos);
  }
}

// With a device that has some parts, and others streamed to it.
Plan good_device_plan() {
  MachineProfile machine = with_device(two_cores(), 40 << 20);
  machine.host_int8_ops.per_s = 100e9;
  return PlacementPlanner::plan(small_model(), machine, {uint64_t{1} << 30}, workload_of(4000, 1)).value();
}

size_t first(const Plan& plan, MatrixPart part, Residence mode, Tier tier) {
  const StepShape shape = small_model();
  for (size_t i = 0; i < plan.tensors.size(); ++i) {
    if (shape.matrices[i].part == part && plan.tensors[i].mode == mode && plan.tensors[i].tier == tier) return i;
  }
  FAIL("no such tensor");
  return 0;
}

TEST_CASE("check_plan: refuses a plan of a device that was changed anywhere, and says where") {
  REQUIRE(check_plan(good_device_plan(), small_model()).to_string() == Status().to_string());
  const std::vector<Tampering> tamperings = {
      {"the same",
       [](Plan* plan) {
         plan->tensors[first(*plan, MatrixPart::kFeedForward, Residence::kStreamed, Tier::kDevice)].compute = Tier::kHost;
       }},
      {"belongs to the same part",
       [](Plan* plan) {
         TensorPlacement& tensor = plan->tensors[first(*plan, MatrixPart::kFeedForward, Residence::kStreamed, Tier::kDevice) + 1];
         tensor.tier = tensor.compute = Tier::kHost;
         tensor.mode = Residence::kResident;
       }},
      {"belongs to the same part",
       [](Plan* plan) {
         plan->tensors[first(*plan, MatrixPart::kFeedForward, Residence::kStreamed, Tier::kDevice) + 1].mode = Residence::kResident;
       }},
      {"device_from_tokens", [](Plan* plan) { plan->device_from_tokens = 0; }},
      {"device_from_tokens", [](Plan* plan) { plan->device_from_tokens = plan->step_tokens + 1; }},
      {"device_slots", [](Plan* plan) { plan->device_slots = 1; }},
      {"tiers.device.stream_slots", [](Plan* plan) { ++plan->device_slots; }},
      {"device_slot_bytes", [](Plan* plan) { plan->device_slot_bytes = 4096; }},
      {"device_slot_bytes", [](Plan* plan) { plan->device_slot_bytes += 64; }},
      {"device_threads", [](Plan* plan) { plan->device_threads = 0; }},
      {"tiers.device.activations", [](Plan* plan) { ++plan->device_threads; }},
      {"transfer_bytes", [](Plan* plan) { plan->transfer_bytes += 4096; }},
      {"tiers.host.other", [](Plan* plan) { plan->host.breakdown.other = 0; }},
      {"step.decode.h2d_bytes", [](Plan* plan) { plan->decode.h2d_bytes += 1; }},
      {"step.prefill.h2d_bytes", [](Plan* plan) { plan->prefill.h2d_bytes -= 1; }},
      {"tiers.device.weights_resident", [](Plan* plan) { plan->device.breakdown.weights_resident += 4096; }},
      {"tiers.device.kv_cache", [](Plan* plan) { plan->device.breakdown.kv_cache += 4096; }},
      {"tiers.device.planned_bytes", [](Plan* plan) { plan->device.planned_bytes -= 4096; }},
      {"of device memory, above the budget", [](Plan* plan) { plan->device.budget_bytes = plan->device.planned_bytes - 1; }},
      {"predicted time", [](Plan* plan) { plan->prefill.lanes.h2d_ms = -1; }},
      {"predicted time", [](Plan* plan) { plan->decode.lanes.device_ms = 0.0 / 0.0; }},
  };
  for (const Tampering& tampering : tamperings) {
    Plan plan = good_device_plan();
    tampering.change(&plan);
    const Status status = check_plan(plan, small_model());
    INFO("expected '" << tampering.named << "' in: " << status.to_string());
    CHECK(status.code() == StatusCode::kInvalidArgument);
    CHECK(status.to_string().find(tampering.named) != std::string::npos);
  }
}

TEST_CASE("check_plan: refuses what only the host computes with on a device, and attention that streams there for some steps only") {
  Plan plan = PlacementPlanner::plan(small_model(), with_device(two_cores(), uint64_t{1} << 30), {uint64_t{1} << 30}, {}).value();
  REQUIRE(plan.tensors[0].tier == Tier::kDevice);
  StepShape shape = small_model();
  shape.matrices[4].part = MatrixPart::kHost;
  CHECK(check_plan(plan, shape).message().find("does not compute with it") != std::string::npos);
  for (int i = 0; i < 4; ++i) plan.tensors[static_cast<size_t>(i)].mode = Residence::kStreamed;
  plan.device_from_tokens = 8;
  CHECK(check_plan(plan, small_model()).message().find("need 1") != std::string::npos);
}

TEST_CASE("check_plan: refuses a plan for another model") {
  StepShape other = small_model();
  other.matrices[10].packed_bytes += 64;
  REQUIRE(check_plan(good_plan(), other).code() == StatusCode::kInvalidArgument);
  other = small_model();
  other.kv_bytes_per_token *= 2;
  REQUIRE(check_plan(good_plan(), other).code() == StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace outrigger
