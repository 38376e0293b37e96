// CostModel: figures that can be worked out by hand, and the direction in which they go.
#include "src/plan/cost_model.h"

#include <cmath>

#include "tests/support/catch.h"

namespace outrigger {
namespace {

// One matrix of 1e6 weights in 1e6 bytes for the layers, half of that for the head; every rate a round number.
StepShape shape() {
  StepShape shape;
  MatrixShape layer, head;
  layer.rows = layer.columns = 1000;
  layer.packed_bytes = layer.file_bytes = 1000000;
  head.rows = 500;
  head.columns = 1000;
  head.packed_bytes = head.file_bytes = 500000;
  head.use = MatrixUse::kLogits;
  shape.matrices = {layer, head};
  return shape;
}

MachineProfile machine() {
  MachineProfile machine;
  machine.threads = 4;
  machine.host_stream_bytes.per_s = 1e9;     // 1 ms for the layers, 0.5 for the head
  machine.host_int8_ops.per_s = 1e12;        // 2 us a token
  machine.host_small_batch_ops.per_s = 2e9;  // 2 ms for one token or two, 1 for each more
  machine.host_attention_flops.per_s = 1e9;
  machine.host_repack_bytes.per_s = 1e9;  // 1 ms for the layers
  machine.disk_bytes.per_s = 1e8;         // 10 ms for the layers, 5 for the head
  return machine;
}

constexpr uint64_t kSlot = 1 << 19;
Workload workload() {
  Workload workload;
  workload.prompt_tokens = 1000;
  workload.new_tokens = 100;
  return workload;
}
const Workload kWorkload = workload();

TEST_CASE("CostModel: a step is bound by the reading of weights or by arithmetic, whichever is longer") {
  MachineProfile fast = machine();
  fast.host_small_batch_ops.per_s = 1e13;  // no faster than many tokens: as 1e12
  REQUIRE(CostModel(shape(), fast, kWorkload).step({1, 0, 1}, {}).host_s == Approx(1.5e-3));
  REQUIRE(CostModel(shape(), machine(), kWorkload).step({1, 0, 1}, {}).host_s == Approx(3e-3));
  REQUIRE(CostModel(shape(), machine(), kWorkload).step({1, 0, 0}, {}).host_s == Approx(2e-3));
  REQUIRE(CostModel(shape(), machine(), kWorkload).step({2000, 0, 0}, {}).host_s == Approx(4e-3));
}

TEST_CASE("CostModel: few tokens are multiplied no faster than many, whatever was measured") {
  MachineProfile measured = machine(), same = machine();
  measured.host_stream_bytes.per_s = same.host_stream_bytes.per_s = 1e15;
  measured.host_int8_ops.per_s = same.host_int8_ops.per_s = same.host_small_batch_ops.per_s = 1e9;
  measured.host_small_batch_ops.per_s = 2e9;
  for (const uint32_t tokens : {1u, 4u, 8u, 9u})
    CHECK(CostModel(shape(), measured, kWorkload).step({tokens, 0, 1}, {}).host_s ==
          CostModel(shape(), same, kWorkload).step({tokens, 0, 1}, {}).host_s);
}

TEST_CASE("CostModel: each kind of product takes its own time") {
  MachineProfile machine = outrigger::machine();
  machine.host_stream_bytes.per_s = 1e12;
  machine.host_float_ops.per_s = 1e11, machine.host_float_small_batch_ops.per_s = 1e9;
  machine.host_bf16_ops.per_s = 2e11, machine.host_bf16_small_batch_ops.per_s = 5e8;
  const auto host_s = [&](ProductKind product, uint32_t tokens, uint32_t rows) {
    StepShape of = shape();
    for (MatrixShape& matrix : of.matrices) matrix.product = product;
    return CostModel(of, machine, kWorkload).step({tokens, 0, rows}, {}).host_s;
  };
  // 1e6 weights in the layers, 5e5 in the head.
  CHECK(host_s(ProductKind::kInt8, 4, 0) == Approx(8e6 / 2e9));
  CHECK(host_s(ProductKind::kFloat32, 4, 0) == Approx(8e6 / 1e9));
  CHECK(host_s(ProductKind::kBf16, 4, 0) == Approx(8e6 / 5e8));
  CHECK(host_s(ProductKind::kFloat32, 4, 4) == Approx(12e6 / 1e9));
  CHECK(host_s(ProductKind::kInt8, 100, 0) == Approx(2e8 / 1e12));
  CHECK(host_s(ProductKind::kFloat32, 100, 0) == Approx(2e8 / 1e11));
  CHECK(host_s(ProductKind::kBf16, 100, 0) == Approx(2e8 / 2e11));
  // The second pass comes after the first, whether that was bound by memory or by arithmetic.
  CHECK(host_s(ProductKind::kInt8Twice, 100, 0) == Approx(4e8 / 1e12));
  machine.host_stream_bytes.per_s = 1e8;
  CHECK(host_s(ProductKind::kInt8Twice, 4, 0) == Approx(1e6 / 1e8 + 8e6 / 2e9));
  CHECK(host_s(ProductKind::kFloat32, 4, 0) == Approx(1e6 / 1e8));
}

TEST_CASE("CostModel: of kinds in one model the times add up, and one token takes as long as two") {
  MachineProfile machine = outrigger::machine();
  machine.host_float_small_batch_ops.per_s = 1e9;
  StepShape mixed = shape();
  mixed.matrices.push_back(mixed.matrices.front());
  mixed.matrices.back().product = ProductKind::kFloat32;
  const CostModel cost(mixed, machine, kWorkload);
  CHECK(cost.step({5, 0, 0}, {}).host_s == Approx(1e7 / 2e9 + 1e7 / 1e9));
  CHECK(cost.step({1, 0, 0}, {}).host_s == cost.step({2, 0, 0}, {}).host_s);
  CHECK(cost.step({3, 0, 0}, {}).host_s == Approx(1.5 * cost.step({2, 0, 0}, {}).host_s));
}

TEST_CASE("CostModel: a profile that says nothing of float weights has them at a share of what it says of others") {
  MachineProfile unknown = machine(), known = machine();
  known.host_float_ops.per_s = 1e12 / 4, known.host_float_small_batch_ops.per_s = 2e9 / 4;
  known.host_bf16_ops.per_s = 1e12 / 2, known.host_bf16_small_batch_ops.per_s = 2e9 / 2;
  known.host_float_repack_bytes.per_s = 1e9;
  for (const ProductKind product : {ProductKind::kFloat32, ProductKind::kBf16}) {
    StepShape of = shape();
    for (MatrixShape& matrix : of.matrices) matrix.product = product;
    for (const uint32_t tokens : {1, 8, 9, 1000}) {
      const StreamLoad load = {1000000, 1000000, 0, 0, kSlot, 2, 1};
      CHECK(CostModel(of, unknown, kWorkload).step({tokens, 0, 1}, load).total_s ==
            CostModel(of, known, kWorkload).step({tokens, 0, 1}, load).total_s);
      CHECK(CostModel(of, unknown, kWorkload).step({tokens, 0, 1}, load).total_s >
            CostModel(shape(), unknown, kWorkload).step({tokens, 0, 1}, load).total_s);
    }
  }
}

TEST_CASE("CostModel: what streams is unpacked and multiplied with in a cache, which adds up") {
  MachineProfile machine = outrigger::machine();  // four threads pack faster than memory is read: 1 ms for the layers
  const StreamLoad all = {1000000, 1000000, 0, 0, kSlot, 2, 4}, half = {500000, 500000, 0, 0, kSlot, 2, 4};
  CHECK(CostModel(shape(), machine, kWorkload).step({4, 0, 0}, all).host_s == Approx(1e-3 + 4e-3));
  machine.host_repack_bytes.per_s = 1e8;
  CHECK(CostModel(shape(), machine, kWorkload).step({4, 0, 0}, all).host_s == Approx(1e6 / 4e8 + 4e-3));
  CHECK(CostModel(shape(), machine, kWorkload).step({4, 0, 0}, half).host_s == Approx(0.5e6 / 4e8 + 4e-3));
  machine.host_small_batch_ops.per_s = 1e12;  // the resident half is bound by memory
  CHECK(CostModel(shape(), machine, kWorkload).step({4, 0, 0}, half).host_s == Approx(0.5e6 / 4e8 + 0.5e-3 + 4e6 / 1e12));
  machine.host_float_ops.per_s = machine.host_float_small_batch_ops.per_s = 1e12;
  machine.host_float_repack_bytes.per_s = 2e8;
  StepShape floats = shape();
  floats.matrices.front().product = ProductKind::kFloat32;
  CHECK(CostModel(floats, machine, kWorkload).step({4, 0, 0}, all).host_s == Approx(1e6 / 8e8 + 8e6 / 1e12));
}

TEST_CASE("CostModel: attention counts the positions that each token sees") {
  StepShape with = shape();
  with.attention_flops_per_token_per_position = 1000;
  const double without = CostModel(shape(), machine(), kWorkload).step({3, 100, 1}, {}).host_s;
  REQUIRE(CostModel(with, machine(), kWorkload).step({3, 100, 1}, {}).host_s - without == Approx((101 + 102 + 103) * 1e3 / 1e9));
  with.attention_flops_per_token_per_position = 0;
  with.kv_bytes_per_token = 5000;  // read once for all tokens of the step
  REQUIRE(CostModel(with, machine(), kWorkload).step({3, 100, 1}, {}).host_s - without == Approx(103 * 5e3 / 1e9));
}

TEST_CASE("CostModel: the other work on activations grows with the tokens, wherever they stand and whatever is multiplied") {
  StepShape with = shape();
  with.activation_flops_per_token = 2e6;
  for (const StepWork& work : {StepWork{1, 0, 1}, StepWork{3, 100, 0}, StepWork{500, 7, 1}}) {
    const double without = CostModel(shape(), machine(), kWorkload).step(work, {}).host_s;
    REQUIRE(CostModel(with, machine(), kWorkload).step(work, {}).host_s - without == Approx(work.tokens * 2e-3));
  }
  with.activation_flops_per_token = -1;
  REQUIRE(PlacementPlanner::plan(with, machine(), {0}, kWorkload).status().code() == StatusCode::kInvalidArgument);
}

TEST_CASE("CostModel: what streams is read, and repacked by those who compute with it") {
  StreamLoad load = {1000000, 1000000, 500000, 500000, kSlot, 2, 1};
  const StepTime step = CostModel(shape(), machine(), kWorkload).step({1, 0, 1}, load);
  REQUIRE(step.disk_s == Approx(15e-3 / 0.4).epsilon(0.02));
  REQUIRE(step.disk_s > 15e-3 / 0.4);  // and each unit has its overhead
  REQUIRE(CostModel(shape(), machine(), kWorkload).step({1, 0, 0}, load).disk_s == Approx(10e-3 / 0.4).epsilon(0.02));
  load.reads = 4;  // the disk's whole rate
  REQUIRE(CostModel(shape(), machine(), kWorkload).step({1, 0, 1}, load).disk_s == Approx(15e-3).epsilon(0.02));
}

TEST_CASE("CostModel: what the file holds packed is only read") {
  StepShape packed = shape();
  const StreamLoad load = {1000000, 1000000, 500000, 500000, kSlot, 2, 1};
  for (MatrixShape& matrix : packed.matrices) matrix.is_packed = true;
  MachineProfile slow_host = machine();
  slow_host.host_small_batch_ops.per_s = 1e8;  // so that the host binds
  slow_host.host_repack_bytes.per_s = 1e8;
  const StepTime step = CostModel(packed, slow_host, kWorkload).step({1, 0, 1}, load),
                 plain = CostModel(shape(), slow_host, kWorkload).step({1, 0, 1}, load);
  REQUIRE(plain.disk_s == step.disk_s);
  REQUIRE(plain.total_s > step.total_s);
  REQUIRE(plain.host_s - step.host_s == Approx(1.5e6 / 4e8 - 1.5e6 / 1e9));  // copied at memory's rate
  packed.matrices.back().is_packed = false;
  REQUIRE(CostModel(packed, slow_host, kWorkload).step({1, 0, 1}, load).host_s - step.host_s == Approx(0.5e6 / 4e8 - 0.5e6 / 1e9));
}

TEST_CASE("CostModel: lanes overlap but for a little") {
  const StreamLoad load = {1000000, 1000000, 0, 0, kSlot, 2};
  const StepTime step = CostModel(shape(), machine(), kWorkload).step({1, 0, 1}, load);
  REQUIRE(step.total_s > std::max(step.host_s, step.disk_s));
  REQUIRE(step.total_s < step.host_s + step.disk_s);
  const StepTime resident = CostModel(shape(), machine(), kWorkload).step({1, 0, 1}, {});
  REQUIRE(resident.total_s == resident.host_s);
  // Of the shorter lane a part for each slot is left bare, and what is computed with the last slot.
  REQUIRE(step.total_s == Approx(step.disk_s + step.host_s / 2 + step.host_s * kSlot / 1.5e6));
}

TEST_CASE("CostModel: a head that streams after resident layers hides no more behind them than the ring holds") {
  MachineProfile slow_host = machine();
  slow_host.host_small_batch_ops.per_s = 1e8;  // 40 ms for the layers, 20 for the head
  const StreamLoad load = {0, 0, 500000, 500000, 1 << 16, 2};
  const StepTime step = CostModel(shape(), slow_host, kWorkload).step({1, 0, 1}, load);
  REQUIRE(step.host_s == Approx(60.5e-3));  // and half of one to unpack it
  slow_host.disk_bytes.per_s = 1e7;  // 50 ms for the head: 13 of them ahead
  REQUIRE(CostModel(shape(), slow_host, kWorkload).step({1, 0, 1}, load).total_s > 40e-3 + 35e-3);
}

TEST_CASE(
    "CostModel: keys and values on disk are read before a layer attends and written after it, and little of that is hidden from two "
    "slots") {
  StepShape with = shape();
  with.kv_layers = 10;
  with.kv_runs = 2;
  with.kv_granule_tokens = 16;
  with.kv_bytes_per_token = 10 * 4096;  // of a layer 4096, of a run 2048
  Workload long_context = kWorkload;
  long_context.context_tokens = 16000;  // runs of 32 MB: each is read on its own
  const CostModel cost(with, machine(), long_context);
  // 1600 tokens are 3.125 MiB of each run: more than four reads of 1 MiB. The step adds a block of each, and whatever pages its ends lie
  // in.
  const StepWork work{1, 1600, 1};
  const double fetch = 2 * (1600 * 2048 + 2 * 4096) / 1e8 + 2 * (1600 * 2048 + 2 * 4096) / 1048576.0 * 60e-6 / 4;
  const double store = 2 * (16 * 2048 + 2 * 4096) / (1e8 * 0.4) + 2 * 60e-6;
  CHECK(cost.kv_fetch_s(work) == Approx(fetch));
  CHECK(cost.kv_store_s(work) == Approx(store));
  StreamLoad load;
  const StepTime none = cost.step(work, load);
  load.kv_spilled_layers = 4;
  const StepTime some = cost.step(work, load);
  CHECK(some.disk_s - none.disk_s == Approx(4 * (fetch + store)));
  CHECK(some.host_s == none.host_s);
  CHECK(some.total_s >= std::max(some.host_s, some.disk_s) + fetch + store);
  CHECK(some.total_s <= some.host_s + some.disk_s + fetch + store);
  // At the beginning there is nothing to read, and short contexts are one request.
  CHECK(cost.kv_fetch_s({1, 0, 1}) == 0);
  long_context.context_tokens = 48;  // two runs of 96 KiB, side by side
  const double together = 48 * 2048 + 32 * 2048 + 2 * 4096;
  CHECK(CostModel(with, machine(), long_context).kv_fetch_s({1, 32, 1}) == Approx(together / (1e8 * 0.4) + 60e-6));
}

TEST_CASE("CostModel: more bytes to stream never make a step faster, more slots never slower") {
  const CostModel cost(shape(), machine(), kWorkload);
  double before = 0;
  for (uint64_t bytes = 0; bytes <= 1000000; bytes += 1000) {
    const double now = cost.step({64, 500, 1}, {bytes, bytes, 0, 0, kSlot, 2}).total_s;
    REQUIRE(now >= before);
    REQUIRE(cost.step({64, 500, 1}, {bytes, bytes, 0, 0, kSlot, 3}).total_s <= now);
    before = now;
  }
}

// 4 layers of 10 experts of 1 MB, of which a token takes two.
StepShape mixture() {
  StepShape shape;
  shape.used_experts = 2;
  for (uint32_t layer = 0; layer < 4; ++layer) {
    MatrixShape stack;
    stack.use = MatrixUse::kRouted;
    stack.layer = layer;
    stack.experts = 10;
    stack.rows = stack.columns = 1000;
    stack.packed_bytes = stack.file_bytes = 10'000'000;
    shape.matrices.push_back(stack);
  }
  return shape;
}

// Products take no time to speak of.
MachineProfile idle_machine() {
  MachineProfile idle = machine();
  for (Rate* rate : {&idle.host_stream_bytes, &idle.host_int8_ops, &idle.host_small_batch_ops, &idle.host_repack_bytes}) rate->per_s = 1e15;
  return idle;
}

ExpertTime experts_of(uint32_t tokens, double absent, double repetition) {
  Workload workload = kWorkload;
  workload.expert_repetition = repetition;
  return CostModel(mixture(), idle_machine(), workload).experts({tokens, 0, 1}, absent, 4);
}

TEST_CASE("CostModel: a token misses of its experts what its texts' repetition leaves, a step of all of them what has no room") {
  CHECK(experts_of(1, 0.5, 1).bytes == Approx(8e6 * 0.5));
  CHECK(experts_of(1, 0.5, 3).bytes == Approx(8e6 * 0.125));
  CHECK(experts_of(1000, 0.5, 1).bytes == Approx(40e6 * 0.5));
  CHECK(experts_of(1000, 0.5, 3).bytes == Approx(40e6 * 0.5));
  CHECK(experts_of(1, 0, 3).bytes == 0);
  CHECK(experts_of(1, 1, 3).bytes == Approx(8e6));
  for (const double repetition : {1.0, 2.0, 7.0, 32.0}) {
    for (const double absent : {0.01, 0.3, 0.6, 0.99}) {
      CAPTURE(repetition, absent);
      for (uint32_t tokens = 1; tokens < 40; ++tokens) {
        const ExpertTime time = experts_of(tokens, absent, repetition), more = experts_of(tokens + 1, absent, repetition),
                         roomier = experts_of(tokens, absent - 0.01, repetition);
        CHECK(more.bytes > time.bytes);
        CHECK(more.total_s > time.total_s);
        CHECK(roomier.bytes < time.bytes);
        CHECK(roomier.total_s <= time.total_s);
      }
    }
  }
}

TEST_CASE("CostModel: an expert by itself has the disk's rate for one read, several at once that for as many") {
  const MachineProfile idle = idle_machine();
  StepShape one = mixture();
  one.used_experts = 1;
  // Requests take 60 us each, one for each of 4 layers.
  CHECK(CostModel(one, idle, kWorkload).experts({1, 0, 1}, 1, 4).disk_s == Approx(4e6 / (0.4 * 1e8) + 4 * 60e-6));
  CHECK(CostModel(mixture(), idle, kWorkload).experts({1, 0, 1}, 1, 4).disk_s == Approx(8e6 / (0.7 * 1e8) + 4 * 60e-6));
  CHECK(CostModel(mixture(), idle, kWorkload).experts({1000, 0, 1}, 1, 4).disk_s == Approx(40e6 / 1e8 + 4 * 60e-6));
  // One place alone holds what arrives.
  CHECK(CostModel(mixture(), idle, kWorkload).experts({1000, 0, 1}, 1, 1).disk_s == Approx(40e6 / (0.4 * 1e8) + 4 * 60e-6));
  // Where one of two is missing half of the time, a layer that waits does so for 1 / 0.75 of them.
  CHECK(CostModel(mixture(), idle, kWorkload).experts({1, 0, 1}, 0.5, 4).disk_s == Approx(4e6 / (0.5 * 1e8) + 4 * 60e-6));
}

TEST_CASE("CostModel: a prompt is its chunks, of which only the last wants logits") {
  const CostModel cost(shape(), machine(), kWorkload);
  const double chunk = cost.step({400, 0, 0}, {}).total_s, last = cost.step({200, 800, 1}, {}).total_s;
  REQUIRE(cost.workload(400, {}).prefill_s == Approx(2 * chunk + last));
  REQUIRE(cost.workload(400, {}).total_s == Approx(2 * chunk + last + 100 * cost.step({1, 1050, 1}, {}).total_s));
  REQUIRE(cost.workload(4096, {}).prefill_s == Approx(cost.step({1000, 0, 1}, {}).total_s));
}

TEST_CASE("CostModel: a batch decodes a token of each session in a step, as far as the step has tokens, and each counts its part of it") {
  Workload workload = kWorkload;
  workload.batch = 6;
  const CostModel cost(shape(), machine(), workload), alone(shape(), machine(), kWorkload);
  const StepWork all = cost.decode_work(400), some = cost.decode_work(4);
  CHECK((all.tokens == 6 && all.sequences == 6 && all.logit_rows == 6 && all.position == alone.decode_work(400).position));
  CHECK((some.tokens == 4 && some.sequences == 4));
  CHECK(cost.workload(400, {}).decode_s == Approx(cost.step(all, {}).total_s / 6));
  CHECK(cost.workload(4, {}).decode_s == Approx(cost.step(some, {}).total_s / 4));
  CHECK(cost.steps(400) == Approx(3 + 100 / 6.0));
  // Each attends to its own past: neither to the others', nor to one past for all.
  CHECK(positions_seen({6, 100, 6, 6}) == 6 * 101);
  CHECK(positions_seen({6, 100, 6, 1}) == 6 * 100 + 21);
  CHECK(positions_read({6, 100, 6, 6}) == 606);
  CHECK(positions_read({6, 100, 6, 1}) == 106);
}

TEST_CASE("CostModel: keys and values on disk are moved for each session of a step") {
  StepShape with = shape();
  Workload workload = kWorkload;
  const CostModel cost(with, machine(), workload);
  CHECK(cost.kv_fetch_s({3, 900, 3, 3}) == Approx(3 * cost.kv_fetch_s({1, 900, 1, 1})));
  CHECK(cost.kv_store_s({3, 900, 3, 3}) == Approx(3 * cost.kv_store_s({1, 900, 1, 1})));
}

}  // namespace
}  // namespace outrigger
