// PlacementPlanner: what it decides, what it refuses, and how fast.
#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/support/random_shape.h"
#include "tests/support/catch.h"
#include "tests/support/thread_time.h"

namespace outrigger {
namespace {

Result<Plan> plan_small(uint64_t budget, const Workload& workload = {}) {
  return PlacementPlanner::plan(small_model(), two_cores(), {budget}, workload);
}

Residence mode_of(const Plan& plan, const std::string& name) {
  const auto at =
      std::find_if(plan.tensors.begin(), plan.tensors.end(), [&name](const TensorPlacement& tensor) { return tensor.name == name; });
  REQUIRE(at != plan.tensors.end());
  return at->mode;
}

TEST_CASE("Planner: the same question gets the same plan") {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    Random random(seed);
    const StepShape shape = random_shape(random);
    const MachineProfile machine = random_machine(random);
    const Workload workload = random_workload(random);
    const Result<Plan> a = PlacementPlanner::plan(shape, machine, {1 << 24}, workload),
                       b = PlacementPlanner::plan(shape, machine, {1 << 24}, workload);
    REQUIRE(a.is_ok() == b.is_ok());
    if (a.is_ok()) REQUIRE(plan_to_json(a.value()) == plan_to_json(b.value()));
  }
}

TEST_CASE("predict_step: a plan's steps are predicted as the plan says, at other rates anew, and steps that it does not have are refused") {
  uint64_t devices = 0, compared = 0;
  for (uint64_t seed = 0; seed < seeds(400); ++seed) {
    CAPTURE(seed);
    Random random(seed);
    const StepShape shape = random_shape(random);
    MachineProfile machine = random_machine(random);
    if (seed % 2 == 0) add_random_device(random, &machine);
    const Result<Plan> made = PlacementPlanner::plan(shape, machine, {1 << 24}, random_workload(random));
    if (!made.is_ok()) continue;
    const Plan& plan = made.value();
    devices += plan.device.planned_bytes > 0;
    const auto predicted = [&](uint32_t tokens, double position, uint32_t rows) {
      return predict_step(plan, shape, machine, tokens, static_cast<uint32_t>(position), rows);
    };
    const StepPrediction& chunk = plan.prefill;
    if (uint64_t{chunk.tokens} + static_cast<uint64_t>(chunk.position) <= plan.context_tokens && chunk.tokens <= plan.step_tokens) {
      ++compared;
      const StepPrediction again = predicted(chunk.tokens, chunk.position, chunk.logit_rows).value();
      REQUIRE(again.predicted_ms == Approx(chunk.predicted_ms));
      REQUIRE(again.lanes.disk_ms == Approx(chunk.lanes.disk_ms));
      REQUIRE(again.lanes.host_ms == Approx(chunk.lanes.host_ms));
      REQUIRE(again.lanes.device_ms == Approx(chunk.lanes.device_ms));
      REQUIRE(again.streamed_bytes == chunk.streamed_bytes);
      REQUIRE(again.h2d_bytes == chunk.h2d_bytes);
      REQUIRE(again.kv_disk_bytes == chunk.kv_disk_bytes);
      REQUIRE(predicted(chunk.tokens, chunk.position, 0).value().streamed_bytes <= chunk.streamed_bytes);
    }
    const double before = predicted(1, 0, 1).value().predicted_ms;
    for (Rate* rate : {&machine.host_stream_bytes, &machine.host_int8_ops, &machine.host_small_batch_ops, &machine.host_attention_flops,
                       &machine.host_repack_bytes, &machine.disk_bytes, &machine.disk_bytes_busy, &machine.host_stream_bytes_busy,
                       &machine.h2d_bytes, &machine.d2h_bytes, &machine.device_stream_bytes, &machine.device_int8_ops,
                       &machine.device_small_batch_ops, &machine.device_attention_flops}) {
      rate->per_s *= 0.5;
    }
    REQUIRE(predicted(1, 0, 1).value().predicted_ms >= before * (1 - 1e-9));
    REQUIRE(predicted(0, 0, 0).status().code() == StatusCode::kInvalidArgument);
    REQUIRE(predicted(plan.step_tokens + 1, 0, 1).status().code() == StatusCode::kInvalidArgument);
    REQUIRE(predicted(1, 0, 2).status().code() == StatusCode::kInvalidArgument);
    const StepPrediction& decode = plan.decode;
    const auto of = [&](uint32_t sequences) { return predict_step(plan, shape, machine, decode.tokens, 0, decode.logit_rows, sequences); };
    REQUIRE(of(decode.sequences).value().sequences == decode.sequences);
    for (const uint32_t sequences : {0u, decode.tokens + 1, plan.batch + 1})
      REQUIRE(of(sequences).status().code() == StatusCode::kInvalidArgument);
    REQUIRE(predicted(1, plan.context_tokens, 1).status().code() == StatusCode::kInvalidArgument);
    if (plan.device.planned_bytes == 0) continue;
    machine.h2d_bytes.per_s = 0;
    REQUIRE(predicted(1, 0, 1).status().code() == StatusCode::kInvalidArgument);
  }
  REQUIRE(devices > seeds(24));
  REQUIRE(compared > seeds(200));
}

TEST_CASE("Planner: a budget below the model streams, and spends nearly all of the budget on what is resident") {
  const Plan plan = plan_small(64 << 20).value();
  REQUIRE(plan.binding_lane == "disk");
  REQUIRE(plan.stream_slots >= 2);
  REQUIRE(plan.decode.streamed_bytes > 0);
  // The smallest matrix has 67.5 KiB: less than that is left over.
  REQUIRE((64 << 20) - plan.host.planned_bytes < 70 << 10);
}

TEST_CASE("Planner: what streams is spread over the layers, so that reading never waits for a stretch without any") {
  const Plan plan = plan_small(50 << 20).value();  // about half
  int without = 0, longest = 0;
  for (const TensorPlacement& tensor : plan.tensors) {
    without = tensor.mode == Residence::kStreamed ? 0 : without + 1;
    longest = std::max(longest, without);
  }
  REQUIRE(longest > 0);
  REQUIRE(longest < 8);  // of 211
}

TEST_CASE("Planner: an embedding that is only looked up streams until everything else is resident") {
  StepShape shape = small_model();
  MatrixShape embedding = matrix_of("embedding.weight", 49152, 576, MatrixUse::kRowLookup);
  shape.matrices.insert(shape.matrices.begin(), embedding);
  const uint64_t everything = PlacementPlanner::plan(shape, two_cores(), {0}, {}).value().host.planned_bytes;

  const Plan tight = PlacementPlanner::plan(shape, two_cores(), {everything - embedding.packed_bytes}, {}).value();
  REQUIRE(tight.decode.lanes.disk_ms < 1);  // single rows
  REQUIRE(mode_of(tight, "embedding.weight") == Residence::kStreamed);
  REQUIRE(tight.row_buffer_bytes == (576 / 32 * 20 + 63) / 64 * 64);
  REQUIRE(tight.stream_slots == 0);
  REQUIRE(tight.staging_bytes == 0);

  const Plan roomy = PlacementPlanner::plan(shape, two_cores(), {everything}, {}).value();
  REQUIRE(mode_of(roomy, "embedding.weight") == Residence::kResident);
  REQUIRE(roomy.row_buffer_bytes == 0);
}

TEST_CASE("Planner: a tied head that streams needs a buffer for the rows that are looked up") {
  const Plan plan = plan_small(64 << 20).value();
  REQUIRE(mode_of(plan, "token_embd.weight") == Residence::kStreamed);
  REQUIRE(plan.row_buffer_bytes == (18 * 34 + 63) / 64 * 64);
}

TEST_CASE("Planner: steps of more than 512 tokens are for what streams, and where all is in memory they are not taken") {
  MachineProfile machine = two_cores();
  machine.disk_bytes.per_s = machine.disk_bytes_busy.per_s = 10e6;
  Workload workload = workload_of(8000, 1);
  workload.kv_spilled_layers = 0;
  const auto step_tokens = [&](uint64_t budget) {
    return PlacementPlanner::plan(small_model(), machine, {budget}, workload).value().step_tokens;
  };
  CHECK(step_tokens(uint64_t{8} << 30) == 512);
  uint64_t budget = PlacementPlanner::plan(small_model(), machine, {uint64_t{8} << 30}, workload).value().host.planned_bytes;
  uint32_t most = 0;
  for (int i = 0; i < 20; ++i) most = std::max(most, step_tokens(budget -= budget / 50));
  CHECK(most > 512);
}

TEST_CASE("Planner: a long prompt in chunks makes layers worth more than the head") {
  // Layers are read once for each chunk, the head once for the prompt.
  Workload workload = workload_of(2000, 1, 1, 0, 1);
  workload.kv_spilled_layers = 0;
  const Plan plan = plan_small(80 << 20, workload).value();
  REQUIRE(plan.step_tokens < 2000);
  REQUIRE(mode_of(plan, "token_embd.weight") == Residence::kStreamed);
}

TEST_CASE("Planner: slots are as many as keep the disk's reads in flight") {
  // With a lane that is always the longer one by far, read-ahead has nothing to even out.
  MachineProfile machine = two_cores();
  machine.disk_bytes.per_s = 50e6;
  const Plan plan = PlacementPlanner::plan(small_model(), machine, {64 << 20}, {}).value();
  REQUIRE(plan.reads == 4);
  REQUIRE((plan.stream_slots - 1) * (plan.slot_bytes >> 20) <= 4);
}

TEST_CASE("Planner: an unknown disk is taken for one of 500 MB/s") {
  MachineProfile machine = two_cores();
  machine.disk_bytes.per_s = 500e6;
  const Plan known = PlacementPlanner::plan(small_model(), machine, {64 << 20}, {}).value();
  machine.disk_bytes.per_s = 0;
  const Plan unknown = PlacementPlanner::plan(small_model(), machine, {64 << 20}, {}).value();
  REQUIRE(plan_to_json(unknown) == plan_to_json(known));
}

TEST_CASE("Planner: a smaller step than logits are wanted for is planned with fewer logits") {
  const Plan plan = plan_small(40 << 20, workload_of(512, 0, 1, 0, 256)).value();
  REQUIRE(plan.logit_rows == std::min(plan.step_tokens, 256u));
}

TEST_CASE("Planner: a batch's steps have a row of logits for every session and every token of its draft, and count all its tokens") {
  Workload workload = workload_of(64, 64, 6);
  const Plan plan = PlacementPlanner::plan(small_model(), two_cores(), {Budgets::kUnlimited}, workload).value();
  REQUIRE(plan.step_tokens >= 6);
  CHECK(plan.logit_rows == 6);
  CHECK((plan.decode.tokens == 6 && plan.decode.sequences == 6 && plan.decode.logit_rows == 6));
  CHECK((plan.prefill.tokens == 64 && plan.prefill.sequences == 1));
  CHECK(plan.predicted_decode_tokens_per_s == Approx(6000 / plan.decode.predicted_ms));
  const Plan alone = PlacementPlanner::plan(small_model(), two_cores(), {Budgets::kUnlimited}, workload_of(64, 64)).value();
  CHECK((alone.decode.tokens == 1 && alone.decode.sequences == 1));
  CHECK(plan.predicted_decode_tokens_per_s > alone.predicted_decode_tokens_per_s);
  workload.draft_tokens = 3;
  const Plan drafting = PlacementPlanner::plan(small_model(), two_cores(), {Budgets::kUnlimited}, workload).value();
  CHECK((drafting.logit_rows == 24 && drafting.draft_tokens == 3));
  workload.logit_rows = 40;
  CHECK(PlacementPlanner::plan(small_model(), two_cores(), {Budgets::kUnlimited}, workload).value().logit_rows == 40);
  // Steps of one token, where there is room for no more: the sessions take turns.
  const Plan least = PlacementPlanner::plan(small_model(), two_cores(), {plan.minimum_host_bytes}, workload_of(64, 64, 6)).value();
  CHECK((least.step_tokens == 1 && least.logit_rows == 1 && least.decode.tokens == 1));
  CHECK(plan_from_json(plan_to_json(plan)).value().decode.sequences == 6);
  CHECK(plan_to_text(plan).find("decode, 6 tokens") != std::string::npos);
}

TEST_CASE("Planner: alternatives cost more memory, and each is faster than the one before") {
  const Plan plan = plan_small(64 << 20).value();
  REQUIRE(plan.alternatives.size() >= 3);
  double rate = plan.predicted_decode_tokens_per_s;
  uint64_t bytes = plan.host.planned_bytes;
  for (const PlanAlternative& other : plan.alternatives) {
    CAPTURE(other.what);
    REQUIRE(other.predicted_decode_tokens_per_s > rate);
    REQUIRE(other.host_bytes > bytes);
    rate = other.predicted_decode_tokens_per_s;
    bytes = other.host_bytes;
    // What it says is what the planner says when it is asked.
    const double asked = plan_small(other.host_bytes).value().predicted_decode_tokens_per_s;
    REQUIRE(asked == Approx(other.predicted_decode_tokens_per_s));
  }
  REQUIRE(plan.alternatives.back().what == "everything resident");
}

TEST_CASE("Planner: the budget error says what binds and what to do about it") {
  Workload long_context = workload_of(512, 128, 1, 8192);
  long_context.kv_spilled_layers = 0;
  const Status kv = plan_small(20 << 20, long_context).status();
  REQUIRE(kv.code() == StatusCode::kBudget);
  REQUIRE(kv.message().find("the KV cache of 8192 tokens; raise the budget or use a smaller context") != std::string::npos);
  REQUIRE(kv.message().find("20.0 MiB (20971520 bytes)") != std::string::npos);
  StepShape shape = small_model();
  shape.fixed_bytes = 100 << 20;
  const Status weights = PlacementPlanner::plan(shape, two_cores(), {20 << 20}, {}).status();
  REQUIRE(weights.message().find("weights that cannot stream") != std::string::npos);
}

TEST_CASE("Planner: a long context in a small budget is feasible with keys and values on disk, and only so") {
  Workload workload = workload_of(8000, 100);
  const Plan spilled = plan_small(48 << 20, workload).value();
  REQUIRE(spilled.kv_spilled_layers > 0);
  REQUIRE(spilled.kv_slots == 2);
  REQUIRE(spilled.kv_slot_bytes == uint64_t{8112} * 768);  // whole blocks of 16 tokens, 192 keys and values each in two bytes
  REQUIRE(spilled.kv_spill_bytes == spilled.kv_spilled_layers * spilled.kv_slot_bytes);
  REQUIRE(spilled.host.breakdown.kv_cache == (32 - spilled.kv_spilled_layers) * spilled.kv_slot_bytes);
  workload.kv_spilled_layers = 0;
  const Status in_memory = plan_small(48 << 20, workload).status();
  REQUIRE(in_memory.code() == StatusCode::kBudget);
  REQUIRE(in_memory.needed_bytes() > 30 * spilled.kv_slot_bytes);
  // More than twice as much is read for a token as in memory is all there is, and the plan knows.
  REQUIRE(spilled.decode.kv_disk_bytes > spilled.kv_spilled_layers * uint64_t{8000} * 768);
  REQUIRE(spilled.decode.lanes.disk_ms > spilled.decode.kv_disk_bytes / 2e9 * 1e3);
}

TEST_CASE("Planner: a context that is mostly empty is cheaper to keep on disk than weights are, and the plan predicts it") {
  Workload workload = workload_of(100, 50, 1, 8192);
  const Plan spilled = plan_small(220 << 20, workload).value();
  REQUIRE(spilled.kv_spilled_layers > 0);
  workload.kv_spilled_layers = 0;
  const Plan streamed = plan_small(220 << 20, workload).value();
  REQUIRE(streamed.decode.streamed_bytes > 10 * spilled.decode.streamed_bytes);
  REQUIRE(spilled.predicted_decode_tokens_per_s > 1.2 * streamed.predicted_decode_tokens_per_s);
  REQUIRE(spilled.alternatives.back().what == "everything resident");
  REQUIRE(spilled.alternatives.back().predicted_decode_tokens_per_s > spilled.predicted_decode_tokens_per_s);
}

TEST_CASE("Planner: with room for everything nothing is spilled, unless it was asked for") {
  Workload workload = workload_of(512, 128);
  REQUIRE(plan_small(Budgets::kUnlimited, workload).value().kv_spilled_layers == 0);
  REQUIRE(plan_small(uint64_t{1} << 30, workload).value().kv_spilled_layers == 0);
  workload.kv_spilled_layers = 7;
  REQUIRE(plan_small(Budgets::kUnlimited, workload).value().kv_spilled_layers == 7);
  workload.kv_spilled_layers = 31;
  const Status refused = plan_small(Budgets::kUnlimited, workload).status();
  REQUIRE(refused.code() == StatusCode::kInvalidArgument);
  REQUIRE(refused.message().find("31 layers") != std::string::npos);
}

TEST_CASE("Planner: rates that are no positive numbers are refused by name") {
  const double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
  for (double bad : {nan, 0.0, -1.0, infinity, 1e-300}) {
    for (Rate MachineProfile::*rate :
         {&MachineProfile::host_stream_bytes, &MachineProfile::host_int8_ops, &MachineProfile::host_small_batch_ops,
          &MachineProfile::host_attention_flops, &MachineProfile::host_repack_bytes}) {
      MachineProfile machine = two_cores();
      (machine.*rate).per_s = bad;
      const Status status = PlacementPlanner::plan(small_model(), machine, {0}, {}).status();
      REQUIRE(status.code() == StatusCode::kInvalidArgument);
      REQUIRE(status.message().find("host_") != std::string::npos);
    }
    MachineProfile machine = two_cores();
    machine.disk_bytes.per_s = bad;
    REQUIRE(PlacementPlanner::plan(small_model(), machine, {0}, {}).is_ok() == (bad == 0));
    machine = two_cores();
    machine.host_step_overhead_us = bad;
    REQUIRE(PlacementPlanner::plan(small_model(), machine, {0}, {}).is_ok() == (bad == 0 || bad == 1e-300));
  }
  MachineProfile machine = two_cores();
  machine.threads = 0;
  REQUIRE(PlacementPlanner::plan(small_model(), machine, {0}, {}).status().code() == StatusCode::kInvalidArgument);
}

TEST_CASE("Planner: workloads that make no sense are refused") {
  const auto refused = [](const Workload& workload) { return plan_small(0, workload).status().code() == StatusCode::kInvalidArgument; };
  REQUIRE(refused(workload_of(0, 0, 1, 0, 1)));
  REQUIRE(refused(workload_of(512, 128, 0, 0, 1)));
  REQUIRE(refused(workload_of(512, 128, 1, 0, 0)));
  REQUIRE(refused(workload_of(512, 128, 1, 639, 1)));
  REQUIRE(refused(workload_of(8192, 1, 1, 0, 1)));
  REQUIRE(refused(workload_of(UINT32_MAX, UINT32_MAX, 1, 0, 1)));
  REQUIRE(refused(workload_of(512, 128, 1, 8193, 1)));
  REQUIRE_FALSE(refused(workload_of(0, 1, 1, 0, 1)));
  REQUIRE_FALSE(refused(workload_of(1, 0, 1, 0, 1)));
  REQUIRE_FALSE(refused(workload_of(8192, 0, 1, 0, 1)));
  for (const double repetition : {0.0, 0.99, 32.01, -1.0, static_cast<double>(NAN), static_cast<double>(INFINITY)}) {
    Workload workload = workload_of(1, 1);
    workload.expert_repetition = repetition;
    REQUIRE(refused(workload));
  }
}

TEST_CASE("Planner: keys and values as float32 take twice the cache, and the time to read it") {
  Workload wide = workload_of(512, 128);
  wide.kv_type = KvType::kF32;
  const Plan narrow_plan = plan_small(0).value(), wide_plan = plan_small(0, wide).value();
  REQUIRE(wide_plan.host.breakdown.kv_cache == 2 * narrow_plan.host.breakdown.kv_cache);
  REQUIRE(wide_plan.kv_type == KvType::kF32);
  REQUIRE(wide_plan.decode.predicted_ms > narrow_plan.decode.predicted_ms);
  wide.kv_type = static_cast<KvType>(7);
  REQUIRE(plan_small(0, wide).status().code() == StatusCode::kInvalidArgument);
}

TEST_CASE("Planner: keys and values as q8_0 take 17/32 of the cache, and are refused where heads are no multiple of 32") {
  Workload coded = workload_of(512, 128);
  coded.kv_type = KvType::kQ8_0;
  const Plan plan = plan_small(0, coded).value(), halves = plan_small(0).value();
  const uint64_t bytes = halves.host.breakdown.kv_cache / 32 * 17;  // then whole pages
  REQUIRE(plan.host.breakdown.kv_cache == (bytes + 4095) / 4096 * 4096);
  REQUIRE(plan.kv_type == KvType::kQ8_0);
  REQUIRE(plan.decode.predicted_ms < halves.decode.predicted_ms);
  StepShape shape = small_model();
  shape.kv_takes_q8_0 = false;
  const Status status = PlacementPlanner::plan(shape, two_cores(), {0}, coded).status();
  REQUIRE(status.code() == StatusCode::kInvalidArgument);
  REQUIRE(status.message().find("heads of a multiple of 32") != std::string::npos);
  shape.kv_takes_q8_0 = true;
  ++shape.kv_bytes_per_token;
  REQUIRE(PlacementPlanner::plan(shape, two_cores(), {0}, {}).status().code() == StatusCode::kInvalidArgument);
}

TEST_CASE("Planner: an unresolved budget is refused") {
  REQUIRE(PlacementPlanner::plan(small_model(), two_cores(), Budgets(), {}).status().code() == StatusCode::kInvalidArgument);
}

TEST_CASE("Planner: shapes that contradict themselves are refused, with the matrix") {
  const auto refused = [](void (*change)(StepShape*)) {
    StepShape shape = small_model();
    change(&shape);
    const Status status = PlacementPlanner::plan(shape, two_cores(), {0}, {}).status();
    return status.code() == StatusCode::kInvalidArgument && (status.subject().empty() || status.subject() == "blk.1.attn_q.weight");
  };
  REQUIRE(refused([](StepShape* shape) { shape->activations.clear(); }));
  REQUIRE(refused([](StepShape* shape) { std::swap(shape->activations[0], shape->activations[1]); }));
  REQUIRE(refused([](StepShape* shape) { shape->attention_flops_per_token_per_position = std::nan(""); }));
  REQUIRE(refused([](StepShape* shape) { shape->matrices[7].rows = 0; }));
  REQUIRE(refused([](StepShape* shape) { shape->matrices[7].packed_bytes = 0; }));
  REQUIRE(refused([](StepShape* shape) { shape->matrices[7].packed_bytes += 1; }));
  REQUIRE(refused([](StepShape* shape) { shape->matrices[7].row_block_bytes = 0; }));
  REQUIRE(refused([](StepShape* shape) { shape->matrices[7].row_block_bytes = shape->matrices[7].packed_bytes + 64; }));
  REQUIRE(refused([](StepShape* shape) { shape->matrices[7].row_block_file_bytes = shape->matrices[7].row_block_bytes + 1; }));
  REQUIRE(refused([](StepShape* shape) { shape->matrices[7].use = MatrixUse::kRowLookup, shape->matrices[7].row_file_bytes = 0; }));
  REQUIRE(refused([](StepShape* shape) {
    shape->matrices[7].use = MatrixUse::kRowLookup;
    shape->matrices[7].row_file_bytes = shape->matrices[7].row_block_bytes + 1;
  }));
  REQUIRE(refused([](StepShape* shape) { shape->matrices[7].also_rows = true; }));
  REQUIRE(refused([](StepShape* shape) { shape->matrices[7].part = MatrixPart::kHead; }));
  REQUIRE(refused(
      [](StepShape* shape) { shape->matrices[8].part = MatrixPart::kHost, shape->matrices[7].name.swap(shape->matrices[9].name); }));
  REQUIRE(refused([](StepShape* shape) { shape->kv_layers = 15; }));
}

TEST_CASE("Planner: 100 layers of 128 experts are planned in a moment") {
  StepShape shape = small_model();
  shape.matrices.clear();
  for (int layer = 0; layer < 100; ++layer) {
    const std::string prefix = "blk." + std::to_string(layer) + ".";
    for (const char* name : {"attn_q", "attn_k", "attn_v", "attn_output"})
      shape.matrices.push_back(matrix_of(prefix + name + ".weight", 4096, 4096));
    for (int expert = 0; expert < 128; ++expert)
      shape.matrices.push_back(matrix_of(prefix + "ffn." + std::to_string(expert) + ".weight", 3072, 4096));
  }
  for (uint64_t gib : {1, 20, 60, 0}) {
    const double best_ms = best_thread_ms(5, [&] { REQUIRE(PlacementPlanner::plan(shape, two_cores(), {gib << 30}, {}).is_ok()); });
    CAPTURE(gib, best_ms);
    REQUIRE(best_ms < kMomentMs);
  }
}

}  // namespace
}  // namespace outrigger
