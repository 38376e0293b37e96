// plan_to_text: the whole table, as a person sees it.
#include <algorithm>

#include "tests/support/random_shape.h"
#include "tests/support/catch.h"

namespace outrigger {
namespace {

// Written by hand, so that the table does not change when the planner does.
Plan made_plan() {
  Plan plan;
  plan.host.budget_bytes = 64 << 20;
  plan.host.breakdown = {40 << 20, 3 << 20, 14 << 20, 2 << 20, 0, 0, 0};
  plan.host.planned_bytes = plan.host.breakdown.total();
  plan.minimum_host_bytes = 15 << 20;
  plan.threads = 2;
  plan.context_tokens = 640;
  plan.step_tokens = 64;
  plan.stream_slots = 2;
  plan.slot_bytes = 1 << 20;
  const auto add = [&plan](const char* name, uint64_t bytes, Residence mode) {
    plan.tensors.push_back({name, bytes, bytes, Tier::kHost, mode, Tier::kHost});
  };
  add("blk.0.attn_q.weight", 200 << 10, Residence::kResident);
  add("blk.0.ffn_up.weight", 540 << 10, Residence::kResident);
  add("blk.1.attn_q.weight", 200 << 10, Residence::kResident);
  add("blk.1.ffn_up.weight", 540 << 10, Residence::kStreamed);
  add("token_embd.weight", 29 << 20, Residence::kStreamed);
  plan.decode = {1, {20.25, 0, 2.5, 0}, 21.5, 30 << 20};
  plan.prefill = {64, {20.5, 0, 1234, 0}, 1260, 31 << 20};
  plan.predicted_prefill_ms = 2500;
  plan.predicted_decode_tokens_per_s = 46.51;
  plan.binding_lane = "disk";
  plan.alternatives = {{"8.0 MiB more host memory", 72 << 20, 60}, {"everything resident", 120 << 20, 350.25}};
  return plan;
}

TEST_CASE("plan text: tells what is kept for a draft model") {
  Workload workload;
  workload.draft_bytes = 24 << 20;
  const Plan plan = PlacementPlanner::plan(small_model(), two_cores(), {128 << 20}, workload).value();
  REQUIRE(plan_to_text(plan).find("Of it 24.0 MiB are kept for a draft model.") != std::string::npos);
  REQUIRE(plan_to_text(PlacementPlanner::plan(small_model(), two_cores(), {128 << 20}, {}).value()).find("draft") == std::string::npos);
}

TEST_CASE("plan text: is this table") {
  const std::string expected =
      R"(Decode at 46.5 tokens/s, bound by the disk; the prompt in 2.50 s. 1 session of 640 tokens, 2 threads.

memory       budget    planned    weights       ring   KV cache  activations      other
host       64.0 MiB   59.0 MiB   40.0 MiB    3.0 MiB   14.0 MiB      2.0 MiB          -
The least that would do: 15.0 MiB.

tensors                resident              streamed
blk.*.attn_q.weight           2   400.0 KiB         -
blk.*.ffn_up.weight           1   540.0 KiB         1   540.0 KiB
token_embd.weight             -                     1    29.0 MiB
Streamed through 2 slots of 1.0 MiB.

step                   predicted        disk        host     from disk
decode, 1 token          21.5 ms     20.2 ms     2.50 ms      30.0 MiB
prefill, 64 tokens        1.26 s     20.5 ms      1.23 s      31.0 MiB

more memory                    budget            decode
8.0 MiB more host memory     72.0 MiB     60.0 tokens/s
everything resident         120.0 MiB    350.2 tokens/s
)";
  REQUIRE(plan_to_text(made_plan()) == expected);
}

TEST_CASE("plan text: of a device says what is on which side, and what goes over the link") {
  Plan plan = made_plan();
  const auto place = [&plan](size_t tensor, Residence mode) {
    plan.tensors[tensor].tier = plan.tensors[tensor].compute = Tier::kDevice, plan.tensors[tensor].mode = mode;
  };
  place(0, Residence::kResident);
  place(1, Residence::kStreamed);
  plan.host.breakdown.other = 1 << 20;
  plan.host.planned_bytes = plan.host.breakdown.total();
  plan.device.budget_bytes = 24 << 20;
  plan.device.breakdown = {1 << 20, 2 << 20, 7 << 20, 3 << 20};
  plan.device.planned_bytes = plan.device.breakdown.total();
  plan.device_slots = 2;
  plan.device_slot_bytes = 1 << 20;
  plan.device_from_tokens = 8;
  plan.device_threads = 4;
  plan.transfer_bytes = 1 << 20;
  plan.prefill.lanes = {20.5, 7.5, 1234, 99.5};
  plan.prefill.h2d_bytes = 540 << 10;
  plan.decode.lanes.device_ms = 0.25;
  plan.binding_lane = "h2d";
  plan.alternatives = {{"4.0 MiB more device memory", 64 << 20, 60, 28 << 20}, {"without the device", 0, 10, 0}};
  const std::string expected =
      R"(Decode at 46.5 tokens/s, bound by the link; the prompt in 2.50 s. 1 session of 640 tokens, 2 threads.

memory       budget    planned    weights       ring   KV cache  activations      other
host       64.0 MiB   60.0 MiB   40.0 MiB    3.0 MiB   14.0 MiB      2.0 MiB    1.0 MiB
device     24.0 MiB   13.0 MiB    1.0 MiB    2.0 MiB    7.0 MiB      3.0 MiB          -
The least that would do: 15.0 MiB.

tensors                    host                device             to device             from disk
blk.*.attn_q.weight           1   200.0 KiB         1   200.0 KiB         -                     -
blk.*.ffn_up.weight           -                     -                     1   540.0 KiB         1   540.0 KiB
token_embd.weight             -                     -                     -                     1    29.0 MiB
Streamed through 2 slots of 1.0 MiB.
Steps of 8 tokens or more bring to the device what it does not hold, through 2 slots of 1.0 MiB; smaller ones compute with it on the host.

step                   predicted        disk        link        host      device     from disk     over link
decode, 1 token          21.5 ms     20.2 ms     0.00 ms     2.50 ms     0.25 ms      30.0 MiB             -
prefill, 64 tokens        1.26 s     20.5 ms     7.50 ms      1.23 s     99.5 ms      31.0 MiB     540.0 KiB

other memory                       host     device            decode
4.0 MiB more device memory     64.0 MiB   28.0 MiB     60.0 tokens/s
without the device             no limit          -     10.0 tokens/s
)";
  REQUIRE(plan_to_text(plan) == expected);
}

TEST_CASE("plan text: with everything resident there is no ring, no disk and nothing more to buy") {
  const std::string text = plan_to_text(PlacementPlanner::plan(small_model(), two_cores(), {0}, {}).value());
  REQUIRE(text.find("no limit") != std::string::npos);
  REQUIRE(text.find("Streamed through") == std::string::npos);
  REQUIRE(text.find("more memory") == std::string::npos);
}

TEST_CASE("plan text: a model with many kinds of tensors still fits a screen") {
  Plan plan = made_plan();
  for (char kind = 'a'; kind <= 'z'; ++kind) {
    plan.tensors.push_back({std::string("x.") + kind, 1 << 10, 1 << 10, Tier::kHost, Residence::kResident, Tier::kHost});
  }
  const std::string text = plan_to_text(plan);
  REQUIRE(std::count(text.begin(), text.end(), '\n') < 40);
  REQUIRE(text.find("13 more                      13    13.0 KiB") != std::string::npos);
}

}  // namespace
}  // namespace outrigger
