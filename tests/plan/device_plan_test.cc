// PlacementPlanner with a device: where parts go when one can tell by hand, and what a step takes when it is added up link by link.
#include <algorithm>

#include "src/plan/branch_share.h"
#include "src/plan/handoff_size.h"
#include "tests/support/random_shape.h"
#include "tests/support/catch.h"
#include "tests/support/thread_time.h"

namespace outrigger {
namespace {

Plan planned(const StepShape& shape, const MachineProfile& machine, const Budgets& budgets, const Workload& workload = {}) {
  const Result<Plan> plan = PlacementPlanner::plan(shape, machine, budgets, workload);
  INFO(plan.status().to_string());
  REQUIRE(plan.is_ok());
  REQUIRE(check_plan(plan.value(), shape).to_string() == Status().to_string());
  return plan.value();
}

int count(const Plan& plan, const StepShape& shape, MatrixPart part, Tier tier, Residence mode = Residence::kResident) {
  int found = 0;
  for (size_t i = 0; i < plan.tensors.size(); ++i) {
    found += shape.matrices[i].part == part && plan.tensors[i].tier == tier && plan.tensors[i].mode == mode;
  }
  return found;
}

TEST_CASE("Planner: a device that holds everything, before a slow host, gets everything") {
  const StepShape shape = small_model();
  const Plan plan = planned(shape, with_device(two_cores(), uint64_t{1} << 30), {uint64_t{1} << 30});
  for (const TensorPlacement& tensor : plan.tensors) REQUIRE((tensor.tier == Tier::kDevice && tensor.mode == Residence::kResident));
  CHECK(plan.host.breakdown.kv_cache == 0);
  CHECK(plan.host.breakdown.other == plan.transfer_bytes);
  CHECK(plan.device.breakdown.kv_cache > 0);
  CHECK(plan.row_buffer_bytes > 0);  // of the tied head, whose rows are looked up in the file
  CHECK(plan.binding_lane == "device");
  const Plan alone = planned(shape, two_cores(), {uint64_t{1} << 30});
  CHECK(plan.predicted_decode_tokens_per_s > 2 * alone.predicted_decode_tokens_per_s);
  REQUIRE_FALSE(plan.alternatives.empty());
  CHECK(plan.alternatives.back().what == "without the device");
  CHECK(plan.alternatives.back().predicted_decode_tokens_per_s == Approx(alone.predicted_decode_tokens_per_s));
}

TEST_CASE("Planner: a device slower than the host is not used") {
  MachineProfile machine = with_device(two_cores(), uint64_t{1} << 30);
  machine.device_stream_bytes.per_s = 1e9;
  machine.device_int8_ops.per_s = machine.device_small_batch_ops.per_s = machine.device_attention_flops.per_s = 1e9;
  const Plan plan = planned(small_model(), machine, {uint64_t{1} << 30});
  CHECK(plan.device.planned_bytes == 0);
  CHECK(plan.device_threads == 0);
  CHECK(plan.host.breakdown.other == 0);
  CHECK(plan.binding_lane == "host");
}

// The device has room for a ring and activations, hardly for weights.
TEST_CASE(
    "Planner: over a slow link one token is computed on the host, and a long prompt on the device, where the feed-forward part streams") {
  const StepShape shape = small_model();
  MachineProfile machine = with_device(two_cores(), 28 << 20);
  machine.h2d_bytes.per_s = machine.d2h_bytes.per_s = 2e9;  // a twentieth of host memory's rate
  machine.host_int8_ops.per_s = 100e9;
  const Plan plan = planned(shape, machine, {uint64_t{1} << 30}, workload_of(4000, 1));
  CHECK(count(plan, shape, MatrixPart::kFeedForward, Tier::kDevice, Residence::kStreamed) > 0);
  CHECK(plan.device_from_tokens > 1);
  CHECK(plan.decode.h2d_bytes == 0);
  CHECK(plan.prefill.h2d_bytes > 0);
  CHECK(plan.prefill.lanes.h2d_ms > 0);
  CHECK(plan.device_slots >= 2);
  CHECK(plan.device.breakdown.stream_slots == plan.device_slots * plan.device_slot_bytes);
}

TEST_CASE(
    "Planner: keys and values that are larger than the weights bring attention to the device and leave the feed-forward part where it is") {
  StepShape shape = small_model();
  shape.kv_bytes_per_token *= 16;
  shape.attention_flops_per_token_per_position *= 128;  // many heads share few keys: more work for each byte than the feed-forward part has
  // Room for all the caches, a few weights and the activations.
  const Workload workload = workload_of(64, 4000);
  const Plan alone = planned(shape, two_cores(), {uint64_t{8} << 30}, workload);
  MachineProfile machine = with_device(two_cores(), alone.host.breakdown.kv_cache + (32 << 20));
  machine.h2d_bytes.per_s = machine.d2h_bytes.per_s = 1e9;  // too slow for weights
  const Plan plan = planned(shape, machine, {uint64_t{8} << 30, Budgets::kUnlimited}, workload);
  CHECK(count(plan, shape, MatrixPart::kAttention, Tier::kDevice) == 4 * 30);
  CHECK(count(plan, shape, MatrixPart::kFeedForward, Tier::kHost) > 0);
  CHECK(plan.host.breakdown.kv_cache == 0);
  CHECK(plan.device.breakdown.kv_cache == alone.host.breakdown.kv_cache);
}

TEST_CASE("Planner: what neither holds is read from disk, and a device with memory for a third of the model saves a third of it") {
  const StepShape shape = small_model();
  MachineProfile machine = with_device(two_cores(), 64 << 20);
  machine.disk_bytes.per_s = 0.3e9;
  const Plan alone = planned(shape, two_cores(), {60 << 20}), plan = planned(shape, machine, {60 << 20, 64 << 20});
  REQUIRE(alone.decode.streamed_bytes > 0);
  CHECK(plan.decode.streamed_bytes + (25 << 20) < alone.decode.streamed_bytes);
}

TEST_CASE("Planner: layers that have a host part only leave attention to the device") {
  StepShape shape = small_model();
  for (MatrixShape& matrix : shape.matrices) {
    if (matrix.part == MatrixPart::kFeedForward) matrix.part = MatrixPart::kHost;
  }
  const Plan plan = planned(shape, with_device(two_cores(), uint64_t{1} << 30), {uint64_t{1} << 30}, workload_of(64, 8000));
  for (size_t i = 0; i < plan.tensors.size(); ++i) {
    if (shape.matrices[i].part == MatrixPart::kHost) REQUIRE(plan.tensors[i].tier == Tier::kHost);
  }
}

TEST_CASE("Planner: alternatives of a device say what the planner says when it is asked") {
  const StepShape shape = small_model();
  const MachineProfile machine = with_device(two_cores(), uint64_t{1} << 30);
  const Plan plan = planned(shape, machine, {uint64_t{1} << 30, 40 << 20});
  REQUIRE(plan.device.planned_bytes > 0);
  int more = 0, everything = 0, without = 0;
  for (const PlanAlternative& other : plan.alternatives) {
    CAPTURE(other.what);
    more += other.what.find("more device memory") != std::string::npos;
    everything += other.what == "everything on the device";
    without += other.what == "without the device";
    MachineProfile asked = machine;
    if (other.device_bytes == 0) asked.device_memory_bytes = 0;
    CHECK(planned(shape, asked, {other.host_bytes, other.device_bytes}).predicted_decode_tokens_per_s ==
          Approx(other.predicted_decode_tokens_per_s));
  }
  CHECK(more > 0);
  CHECK(everything == 1);
  CHECK(without == 1);
}

// The model of a step on a device, in the plain words of the issue: each part where it is, one after the other, the residual across the
// link wherever sides change, logits back, both sides' overhead. Nothing streams.
double added_up_ms(const StepShape& shape, const MachineProfile& machine, const Plan& plan, const StepPrediction& step, KvType kv_type) {
  const double tokens = step.tokens, positions = tokens * step.position + tokens * (tokens / step.sequences + 1) / 2;
  const double kv = static_cast<double>(shape.kv_bytes_per_token) *
                    (kv_type == KvType::kF32    ? 2
                     : kv_type == KvType::kQ8_0 ? 17.0 / 32
                                                : 1) /
                    shape.kv_layers;
  const double flops = shape.attention_flops_per_token_per_position / shape.kv_layers;
  double host_bytes[2][4] = {}, host_weights[2][4] = {}, device_bytes[2][4] = {}, device_weights[2][4] = {}, seconds = 0;  // by ProductKind
  uint32_t device_layers = 0, row_reads = 0;
  bool was_there = false, uses_device = false;
  const bool by_words = machine.handoff_us > 0 && step.tokens <= 16;  // half of a turn each way, and of each word
  for (const bool heads : {false, true}) {
    uint32_t layer = UINT32_MAX;
    for (size_t i = 0; i < shape.matrices.size(); ++i) {
      const MatrixShape& matrix = shape.matrices[i];
      if (plan.tensors[i].tier == Tier::kDevice && matrix.also_rows && heads) ++row_reads;
      if (matrix.use == MatrixUse::kRowLookup || (matrix.use == MatrixUse::kLogits) != heads || (heads && step.logit_rows == 0)) continue;
      const bool is_there = plan.tensors[i].tier == Tier::kDevice;
      uses_device = uses_device || is_there;
      if (is_there != was_there) {
        const double bytes = tokens * static_cast<double>(shape.residual_row_bytes);
        seconds += (by_words ? machine.handoff_us / 2 : machine.link_latency_us) * 1e-6 +
                   (by_words ? 2 : 1) * bytes / (is_there ? machine.h2d_bytes.per_s : machine.d2h_bytes.per_s);
      }
      was_there = is_there;
      if (is_there && matrix.part == MatrixPart::kAttention && matrix.layer != layer) ++device_layers, layer = matrix.layer;
      (is_there ? device_bytes : host_bytes)[heads][static_cast<int>(matrix.product)] += static_cast<double>(matrix.packed_bytes);
      (is_there ? device_weights : host_weights)[heads][static_cast<int>(matrix.product)] +=
          static_cast<double>(matrix.rows * matrix.columns);
    }
  }
  if (step.logit_rows > 0 && device_bytes[1][0] + device_bytes[1][1] + device_bytes[1][2] + device_bytes[1][3] > 0) {
    seconds += machine.link_latency_us * 1e-6 + step.logit_rows * static_cast<double>(shape.logits_row_bytes) / machine.d2h_bytes.per_s;
  }
  // The host has a rate for each kind, known or a share of int8's, for few tokens none that is above that of many, and multiplies for two
  // tokens at least; a device has one.
  const auto host_product = [&](int heads, double n) {
    const auto rate = [n](double few, double many) { return n <= 8 ? std::min(few, many) : many; };
    const auto known_or = [](const Rate& known, double share) { return known.per_s > 0 ? known.per_s : share; };
    const double many = machine.host_int8_ops.per_s, few = std::min(machine.host_small_batch_ops.per_s, many), int8 = rate(few, many),
                 of = 2 * std::max(n, 2.0);
    const double float32 = rate(known_or(machine.host_float_small_batch_ops, few / 4), known_or(machine.host_float_ops, many / 4)),
                 bf16 = rate(known_or(machine.host_bf16_small_batch_ops, few / 2), known_or(machine.host_bf16_ops, many / 2));
    const double *weights = host_weights[heads], *bytes = host_bytes[heads], stream = machine.host_stream_bytes.per_s;
    return std::max((bytes[0] + bytes[1]) / stream, of * (weights[0] + weights[1]) / int8) + of * weights[1] / int8 +
           std::max(bytes[2] / stream, of * weights[2] / float32) + std::max(bytes[3] / stream, of * weights[3] / bf16);
  };
  const auto device_product = [&](int heads, double n) {
    const double *weights = device_weights[heads], *bytes = device_bytes[heads];
    return std::max((bytes[0] + bytes[1] + bytes[2] + bytes[3]) / machine.device_stream_bytes.per_s,
                    2 * n * (weights[0] + 2 * weights[1] + weights[2] + weights[3]) /
                        (n <= 8 ? machine.device_small_batch_ops.per_s : machine.device_int8_ops.per_s));
  };
  for (const int heads : {0, 1}) {
    if (heads == 1 && step.logit_rows == 0) continue;
    const double n = heads == 1 ? step.logit_rows : tokens;
    seconds += host_product(heads, n) + device_product(heads, n);
  }
  seconds += (shape.kv_layers - device_layers) * std::max(flops * positions / machine.host_attention_flops.per_s,
                                                          kv * (step.sequences * step.position + tokens) / machine.host_stream_bytes.per_s);
  seconds += device_layers * std::max(flops * positions / machine.device_attention_flops.per_s,
                                      kv * (step.sequences * step.position + tokens) / machine.device_stream_bytes.per_s);
  seconds += (machine.host_step_overhead_us + (uses_device ? machine.device_step_overhead_us : 0)) * 1e-6;
  bool was_second = false;  // factors of a window follow each other
  for (const MatrixShape& matrix : shape.matrices) {
    const bool is_second = matrix.adds_to_window && matrix.used_share > 0;
    if (is_second && !was_second) seconds += 1.5e-6;
    was_second = is_second;
  }
  seconds += tokens * 3.5 * static_cast<double>(shape.residual_read_bytes_per_token) / machine.host_stream_bytes.per_s;
  return (seconds + tokens * row_reads * 20e-6) * 1e3;
}

TEST_CASE("Planner: a step of which nothing streams takes what its parts take, one after the other, and the way between them") {
  uint64_t compared = 0, by_words = 0;
  for (uint64_t seed = 0; seed < seeds(2000); ++seed) {
    Random random(seed);
    const StepShape shape = random_shape(random);
    MachineProfile machine = random_machine(random);
    add_random_device(random, &machine);
    const Workload workload = random_workload(random);
    const Plan plan = planned(shape, machine, {Budgets::kUnlimited}, workload);
    if (plan.device.planned_bytes == 0 || plan.device_slots > 0 || shape.used_experts > 0 || plan.corrections_beside) continue;
    CAPTURE(seed);
    by_words += plan.handoff_bytes > 0;
    bool takes_turns = false;
    for (size_t i = 0; i < shape.matrices.size(); ++i)
      takes_turns |= shape.matrices[i].part != MatrixPart::kHost && plan.tensors[i].tier != Tier::kDevice;
    CHECK((plan.handoff_bytes > 0) == (takes_turns && machine.handoff_us > 0));
    for (const StepPrediction* step : {&plan.decode, &plan.prefill}) {
      REQUIRE(step->predicted_ms == Approx(added_up_ms(shape, machine, plan, *step, workload.kv_type)).epsilon(1e-9));
    }
    ++compared;
  }
  CHECK(compared > seeds(200));
  CHECK(by_words > seeds(100));
}

TEST_CASE("Planner: what host and device hand over through is in the host's memory, and only what a step of sixteen tokens needs") {
  StepShape shape;
  shape.residual_row_bytes = 4 * 576;
  CHECK(handoff_size(shape).to_host == 576);
  CHECK(handoff_size(shape).to_device == 576);
  CHECK(handoff_bytes(handoff_size(shape)) == (64 + 16 * 8 * 2 * 576 + 4095) / 4096 * 4096);
  MatrixShape down;
  down.columns = 1536, down.use = MatrixUse::kEveryToken;
  shape.matrices = {down};
  CHECK(handoff_size(shape).to_host == 576);  // which is its window's own
  shape.correction_row_bytes = 4 * 3072;
  CHECK(handoff_size(shape).to_host == 1536);
  CHECK(handoff_size(shape).to_device == 3072);

  for (uint64_t seed = 0; seed < seeds(300); ++seed) {
    CAPTURE(seed);
    Random random(seed);
    const StepShape any = random_shape(random);
    MachineProfile machine = random_machine(random);
    add_random_device(random, &machine);
    machine.handoff_us = 0;
    const Workload workload = random_workload(random);
    CHECK(planned(any, machine, {Budgets::kUnlimited}, workload).handoff_bytes == 0);
    machine.handoff_us = 1e-3;
    Plan with = planned(any, machine, {Budgets::kUnlimited}, workload);
    if (with.handoff_bytes == 0) continue;
    CHECK(with.host.breakdown.other == with.transfer_bytes + with.handoff_bytes);
    with.handoff_bytes += 4096;
    CHECK(check_plan(with, any).message().find("handoff_bytes") != std::string::npos);
  }
}

/// Of corrections, what a step reads.
double used_bytes(const StepShape& shape) {
  double bytes = 0;
  for (const MatrixShape& matrix : shape.matrices) {
    bytes +=
        matrix.is_branch ? matrix.used_share * static_cast<double>(matrix.packed_bytes) : static_cast<double>(matrix.residual_read_bytes);
  }
  return bytes;
}

TEST_CASE("Planner: within an allowed slowdown a plan has at least the largest share of branches that is predicted to keep to it") {
  uint64_t all = 0, some = 0, windows = 0;
  for (uint64_t seed = 0; seed < seeds(400); ++seed) {
    Random random(seed);
    const StepShape shape = random_shape(random);
    MachineProfile machine = random_machine(random);
    add_random_device(random, &machine);
    Workload workload = random_workload(random);
    if (shape.correction_row_bytes == 0) continue;
    CAPTURE(seed);
    const auto rate_at = [&](double share) {
      return planned(with_branch_share(shape, share), machine, {Budgets::kUnlimited}, workload).predicted_decode_tokens_per_s;
    };
    const double bare = rate_at(0);
    workload.max_slowdown = 0.05;
    const Plan plan = planned(shape, machine, {Budgets::kUnlimited}, workload);
    workload.max_slowdown = Workload::kAnySlowdown;
    REQUIRE(plan.predicted_decode_tokens_per_s >= bare / 1.05 * (1 - 1e-9));
    const StepShape used = with_corrections_of(plan, shape);
    REQUIRE(plan.predicted_decode_tokens_per_s ==
            Approx(planned(used, machine, {Budgets::kUnlimited}, workload).predicted_decode_tokens_per_s));
    if (std::any_of(plan.tensors.begin(), plan.tensors.end(), [](const TensorPlacement& tensor) { return !tensor.is_corrected; })) {
      int step = 32;
      while (rate_at(step / 32.0) < bare / 1.05) --step;
      REQUIRE(step < 32);
      REQUIRE(used_bytes(used) > used_bytes(with_branch_share(shape, step / 32.0)) - static_cast<double>(shape.matrices.size()));
      ++windows;
      continue;
    }
    if (plan.branch_share < 1) REQUIRE(rate_at(plan.branch_share + 1.0 / 32) < bare / 1.05);
    ++(plan.branch_share < 1 ? some : all);
  }
  CHECK(all > seeds(20));
  CHECK(some > seeds(10));
  CHECK((windows > 0 || kIsSanitized));  // of an eighth of the cases none
  Workload workload;
  workload.max_slowdown = -0.5;
  CHECK(PlacementPlanner::plan(small_model(), two_cores(), {0}, workload).status().message().find("max_slowdown") != std::string::npos);
  workload.max_slowdown = 0;
  workload.corrections = static_cast<CorrectionPlace>(3);
  CHECK(PlacementPlanner::plan(small_model(), two_cores(), {0}, workload).status().message().find("corrections") != std::string::npos);
}

// A check of the search from outside: no set of whole layers on the device, of any size and whether or not the head is there, is faster by
// more than rounding than what was found, where everything else is resident.
TEST_CASE("Planner: no number of the first layers that fit the device is faster than what was found") {
  uint64_t tried = 0;
  for (uint64_t seed = 0; seed < seeds(300); ++seed) {
    Random random(seed);
    const StepShape shape = random_shape(random);
    MachineProfile machine = random_machine(random);
    add_random_device(random, &machine);
    const Workload workload = random_workload(random);
    if (shape.used_experts > 0) continue;
    const Plan found = planned(shape, machine, {Budgets::kUnlimited}, workload);
    for (uint32_t layers = 1; layers <= shape.kv_layers; ++layers) {
      // Asked for by leaving nothing else that a device could do.
      StepShape limited = shape;
      for (MatrixShape& matrix : limited.matrices) {
        if (matrix.layer >= layers || matrix.part == MatrixPart::kHead) matrix.part = MatrixPart::kHost;
      }
      const Plan other = planned(limited, machine, {Budgets::kUnlimited}, workload);
      // Of the smaller model the planner may take another selection than all of it, which is none of the larger one's.
      const auto is_all_there = [&] {
        for (size_t i = 0; i < other.tensors.size(); ++i) {
          if (limited.matrices[i].part != MatrixPart::kHost &&
              (other.tensors[i].tier != Tier::kDevice || other.tensors[i].mode != Residence::kResident))
            return false;
        }
        return true;
      };
      if (!is_all_there()) continue;
      CAPTURE(seed, layers);
      REQUIRE(predicted_ms(found, workload) <= predicted_ms(other, workload) * (1 + 1e-9));
      ++tried;
    }
  }
  CHECK(tried > seeds(100));
}

double best_planning_ms(const StepShape& shape, const MachineProfile& machine, const Budgets& budgets, const Workload& workload = {}) {
  return best_thread_ms(5, [&] { REQUIRE(PlacementPlanner::plan(shape, machine, budgets, workload).is_ok()); });
}

StepShape hundred_layers(bool has_experts) {
  StepShape shape = small_model();
  const MatrixShape head = shape.matrices.back();
  shape.matrices.clear();
  for (uint32_t layer = 0; layer < 100; ++layer) {
    const std::string prefix = "blk." + std::to_string(layer) + ".";
    const auto add = [&](const char* name, uint64_t rows, uint64_t columns, MatrixPart part) {
      shape.matrices.push_back(matrix_of(prefix + name + ".weight", rows, columns));
      shape.matrices.back().layer = layer;
      shape.matrices.back().part = part;
    };
    for (const char* name : {"attn_q", "attn_k", "attn_v", "attn_output"}) add(name, 4096, 4096, MatrixPart::kAttention);
    for (const char* name : {"ffn_gate", "ffn_up", "ffn_down"}) {
      add(name, has_experts ? 1536 : 14336, 4096, has_experts ? MatrixPart::kHost : MatrixPart::kFeedForward);
      MatrixShape& matrix = shape.matrices.back();
      if (!has_experts) continue;
      matrix.use = MatrixUse::kRouted;
      matrix.experts = 128;
      matrix.packed_bytes *= 128;
      matrix.file_bytes *= 128;
    }
  }
  shape.matrices.push_back(head);
  shape.matrices.back().layer = 100;
  shape.kv_layers = 100;
  shape.kv_runs = 16;
  shape.kv_bytes_per_token = 100 * 4096;
  shape.used_experts = has_experts ? 8 : 0;
  return shape;
}

// A host that multiplies slowly beside a link of 12 GB/s, and budgets as shares of what a model takes.
struct SlowHost {
  StepShape shape = hundred_layers(false);
  MachineProfile machine = with_device(two_cores(), UINT64_MAX);
  uint64_t all_bytes = 0;

  SlowHost() {
    for (const MatrixShape& matrix : shape.matrices) all_bytes += matrix.packed_bytes;
    machine.host_int8_ops.per_s = machine.host_small_batch_ops.per_s = 500e9;
  }
  uint64_t bytes(double share) const { return static_cast<uint64_t>(share * static_cast<double>(all_bytes)); }
  Plan plan(const Budgets& budgets) const { return planned(shape, machine, budgets, workload_of(512, 128)); }
};

// Lengths of an order that lie far apart leave a device between them to choose what it can hold and no stream, and prompts to the host.
TEST_CASE("Planner: whatever share of a model a device holds, a prompt's step brings it the rest where the link is faster than the host") {
  const SlowHost slow;
  for (const double share : {0.2, 0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9}) {
    const Plan plan = slow.plan({uint64_t{200} << 30, slow.bytes(share)});
    CAPTURE(share, plan.device.planned_bytes, plan.prefill.predicted_ms);
    CHECK(plan.prefill.h2d_bytes > 0);
    CHECK(plan.prefill.predicted_ms < 2.5e3 * static_cast<double>(slow.all_bytes) / slow.machine.h2d_bytes.per_s);
    CHECK(plan.device.planned_bytes > slow.bytes(share) * 95 / 100);
  }
}

// What streams to a device has to be in the host's memory, so how much of it may depends on how much the host reads from disk.
TEST_CASE("Planner: where the disk serves what neither memory holds, a prompt's step still brings the device most of what the host has") {
  const SlowHost slow;
  for (const double on_device : {0.15, 0.2, 0.25, 0.3, 0.35, 0.4}) {
    for (const double on_host : {0.4, 0.45, 0.5}) {
      const Plan plan = slow.plan({slow.bytes(on_host), slow.bytes(on_device)});
      CAPTURE(on_device, on_host, plan.prefill.h2d_bytes, plan.decode.streamed_bytes);
      CHECK(plan.decode.streamed_bytes > 0);
      CHECK(plan.prefill.h2d_bytes > slow.bytes(on_host) / 2);
      CHECK(plan.device.planned_bytes > slow.bytes(on_device) * 9 / 10);
    }
  }
}

TEST_CASE("Planner: 100 layers with a device, dense or of 128 experts, are planned in a moment") {
  for (const bool has_experts : {false, true}) {
    const StepShape shape = hundred_layers(has_experts);
    for (const uint64_t host_gib : {4, 20, 200, 0}) {
      for (const uint64_t device_gib : {2, 8, 24, 80}) {
        if (has_experts && host_gib == 0) continue;
        CAPTURE(has_experts, host_gib, device_gib);
        const double ms = best_planning_ms(shape, with_device(two_cores(), device_gib << 30), {host_gib << 30, Budgets::kUnlimited});
        CAPTURE(ms);
        CHECK(ms < kMomentMs);
      }
    }
  }
}

TEST_CASE("Planner: 13,200 matrices with a device are planned in a moment") {
  StepShape shape = small_model();
  shape.matrices.clear();
  for (uint32_t layer = 0; layer < 100; ++layer) {
    for (uint32_t at = 0; at < 132; ++at) {
      shape.matrices.push_back(matrix_of("blk." + std::to_string(layer) + ".m" + std::to_string(at) + ".weight", 3072, 4096));
      shape.matrices.back().layer = layer;
      shape.matrices.back().part = at < 4 ? MatrixPart::kAttention : MatrixPart::kFeedForward;
    }
  }
  shape.kv_layers = 100;
  shape.kv_runs = 16;
  shape.kv_bytes_per_token = 100 * 4096;
  for (const uint64_t host_gib : {1, 60, 0}) {
    CAPTURE(host_gib);
    const double ms = best_planning_ms(shape, with_device(two_cores(), uint64_t{24} << 30), {host_gib << 30, Budgets::kUnlimited});
    CAPTURE(ms);
    CHECK(ms < kMomentMs);
  }
}

}  // namespace
}  // namespace outrigger
