// Streaming: whole steps over random models, by the schedule that a step's graph has, with every operand's bytes compared.
#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>

#include "src/graph/executor.h"
#include "src/memory/residency.h"
#include "tests/memory/scenario.h"
#include "tests/support/catch.h"
#include "tests/support/heap_watch.h"

namespace outrigger {
namespace {

enum Op : uint16_t { kCompute, kArrive, kRequest };

/// A step that reads its items 0..n-1 in turn, some pieces in two operands, resident matrices in between. Unit (j + S) mod n is requested
/// into the slot of item j once that was read last; readers of an item wait for its arrival, which is taken care of while the item before
/// is read.
TaskGraph build_step(const TensorResidency& residency, const Scenario& scenario, bool with_logits, std::mt19937& random) {
  const StreamLayout& stream = residency.stream();
  const uint32_t items = stream.step_units(with_logits), slots = stream.ring_slots;
  TaskGraph graph;
  std::vector<NodeId> arrivals;
  const auto arrive = [&](uint32_t unit) {
    if (unit < items && arrivals.size() == unit) arrivals.push_back(graph.add(Lane::kDisk, kArrive, unit));
  };
  for (uint32_t i = 0; i < items; ++i) {
    arrive(i);
    const std::vector<NodeId> needs{arrivals[i]};
    NodeId last = 0;
    for (const StreamPiece& piece : stream.units[i].pieces) {
      const uint32_t split = piece.blocks > 1 ? 1 + random() % piece.blocks : piece.blocks;
      std::vector<OperandRef> operands{{piece.matrix, piece.first_block, split}};
      if (split < piece.blocks) operands.push_back({piece.matrix, piece.first_block + split, piece.blocks - split});
      last = graph.add(Lane::kHost, kCompute, i, operands, needs);
    }
    const uint32_t resident = random() % static_cast<uint32_t>(scenario.weights.size());
    if (residency.is_resident(resident)) graph.add(Lane::kHost, kCompute, i, std::vector<OperandRef>{{resident, 0, 1}});
    if (slots > 1) arrive(i + 1);
    graph.add(Lane::kDisk, kRequest, (i + slots) % items, {}, std::vector<NodeId>{last});
  }
  REQUIRE(graph.finish().is_ok());
  return graph;
}

class StepRunner final : public NodeRunner {
 public:
  StepRunner(TensorResidency& residency, const Scenario& scenario) : residency_(residency), scenario_(scenario) {
    for (uint32_t m = 0; m < scenario.weights.size(); ++m) packed_.push_back(scenario.packed(m));
  }

  Status run_segment(const TaskGraph& graph, Lane, std::span<const NodeId> nodes) override {
    for (const NodeId id : nodes) {
      const TaskNode& node = graph.nodes()[id];
      if (node.op != kCompute) {
        delay(disk_delays_);
        Status status = node.op == kArrive ? residency_.arrive(node.argument) : residency_.request(node.argument);
        if (!status.is_ok()) return status;
        continue;
      }
      for (const OperandRef& ref : graph.operands(node)) {
        const uint64_t block_bytes = scenario_.shape.matrices[ref.matrix].row_block_bytes;
        const std::byte* expected = packed_[ref.matrix].data() + ref.first_block * block_bytes;
        const uint64_t bytes = ref.blocks * block_bytes;
        mismatches += std::memcmp(packed(ref, bytes), expected, bytes) != 0;
        delay(host_delays_);
        mismatches += std::memcmp(packed(ref, bytes), expected, bytes) != 0;  // nobody may have written there meanwhile
        ++operands;
      }
    }
    return {};
  }

  std::atomic<uint64_t> mismatches{0}, operands{0};
  bool delays = true;

 private:
  // What streams is there as the file has it.
  const std::byte* packed(const OperandRef& ref, uint64_t bytes) {
    if (residency_.is_resident(ref.matrix)) return residency_.operand(ref);
    const WeightSource& weight = scenario_.weights[ref.matrix];
    unpacked_.resize(std::max<size_t>(unpacked_.size(), bytes));
    weight.place(residency_.operand(ref), weight.file_bytes(ref.first_block, ref.blocks), unpacked_.data());
    return unpacked_.data();
  }

  void delay(std::mt19937& dice) const {
    const uint32_t thrown = dice();
    if (delays && thrown % 6 == 0) std::this_thread::sleep_for(std::chrono::microseconds(thrown / 6 % 80));
  }

  TensorResidency& residency_;
  const Scenario& scenario_;
  std::vector<std::vector<std::byte>> packed_;
  std::vector<std::byte> unpacked_;
  std::mt19937 disk_delays_{5}, host_delays_{6};
};

struct Streaming {
  Scenario scenario;
  Plan plan;
  FakeBackend backend;
  std::shared_ptr<FakeSource> source;
  std::unique_ptr<TensorResidency> residency;
  std::unique_ptr<GraphExecutor> executor;
  std::unique_ptr<StepRunner> runner;
  TaskGraph steps[2];  ///< without and with logits

  /// False for a model of which nothing streams.
  bool start(std::vector<bool> streamed, uint32_t slots, uint64_t spare_pages) {
    plan = scenario.plan(streamed, slots, spare_pages);
    source = scenario.source();
    auto made = TensorResidency::create(backend, source, scenario.shape, scenario.weights, plan);
    REQUIRE(made.is_ok());
    residency = std::move(made).value();
    auto team = ThreadTeam::create(1);
    REQUIRE(team.is_ok());
    REQUIRE(residency->load(*team.value(), {}, {}).is_ok());
    auto made_executor = GraphExecutor::create();
    REQUIRE(made_executor.is_ok());
    executor = std::move(made_executor).value();
    runner = std::make_unique<StepRunner>(*residency, scenario);
    for (const bool with_logits : {false, true}) steps[with_logits] = build_step(*residency, scenario, with_logits, scenario.random);
    return !residency->stream().units.empty();
  }

  /// As an engine does it: a step that fails invalidates.
  Status step(bool with_logits) {
    Status status = residency->prime();
    if (status.is_ok()) status = executor->run(steps[with_logits], *runner, CancelToken());
    if (!status.is_ok()) residency->invalidate();
    return status;
  }
  /// Of the ring, as it is at the end of a step: what is under way comes in, so that bytes can be counted.
  void settle() {
    for (uint32_t unit = 0; unit < residency->stream().ring_slots; ++unit) REQUIRE(residency->arrive(unit).is_ok());
  }

  uint64_t file_bytes(uint32_t first_unit, uint32_t units) const {
    uint64_t bytes = 0;
    for (uint32_t u = first_unit; u < first_unit + units; ++u) bytes += residency->stream().units[u].file_bytes;
    return bytes;
  }
};

TEST_CASE("Streaming: in random models and random kinds of steps every operand has the file's bytes for as long as it is in use") {
  unsigned streaming = 0;
  for (unsigned round = 0; round < 60; ++round) {
    CAPTURE(round);
    Streaming s;
    s.scenario.random.seed(round);
    s.scenario.add_random_model(10);
    if (!s.start(round % 2 == 0 ? s.scenario.all(true) : s.scenario.some(), 2 + s.scenario.random() % 3, s.scenario.random() % 3)) continue;
    ++streaming;
    uint64_t expected_bytes = s.file_bytes(0, s.residency->stream().ring_slots);
    for (int step = 0; step < 8; ++step) {
      CAPTURE(step);
      const bool with_logits = s.scenario.random() % 2 == 0;
      REQUIRE(s.step(with_logits).is_ok());
      s.settle();
      REQUIRE(s.runner->mismatches == 0);
      expected_bytes += s.file_bytes(0, s.residency->stream().step_units(with_logits));
      // The ring is primed once; after that a step reads each of its units once and leaves the next one's first units behind.
      REQUIRE(s.residency->streamed_bytes() == expected_bytes);
    }
    REQUIRE(s.runner->operands > 0);
    REQUIRE(s.residency->report().peak_bytes <= s.plan.host.planned_bytes);
  }
  REQUIRE(streaming > 40);
}

TEST_CASE("Streaming: a step with logits reads what the plan says") {
  Streaming s;
  for (int i = 0; i < 5; ++i) s.scenario.add(DType::kQ4_1, 300, 96);
  s.scenario.add(DType::kQ8_0, 500, 64, MatrixUse::kLogits);
  REQUIRE(s.start(s.scenario.all(true), 3, 0));
  REQUIRE(s.step(true).is_ok());
  s.settle();
  const uint64_t before = s.residency->streamed_bytes();
  REQUIRE(s.step(true).is_ok());
  s.settle();
  REQUIRE(s.residency->streamed_bytes() - before == s.plan.decode.streamed_bytes);
}

TEST_CASE("Streaming: whichever read fails, a step says so, and the one after it is right") {
  Streaming s;
  for (int i = 0; i < 4; ++i) s.scenario.add(DType::kQ4_0, 200, 160);
  s.scenario.add(DType::kF16, 70, 50, MatrixUse::kLogits, true);
  REQUIRE(s.start({true, false, true, true, true}, 2, 1));
  s.runner->delays = false;
  REQUIRE(s.step(true).is_ok());
  // A read that was begun for the next step is that step's to report, so two steps are made.
  for (uint64_t nth = 1; nth <= 12; ++nth) {
    CAPTURE(nth);
    s.settle();
    s.source->failing_read = s.source->reads + nth;
    Status status = s.step(nth % 2 == 0);
    if (status.is_ok()) status = s.step(true);
    REQUIRE(s.source->reads >= s.source->failing_read);
    s.source->failing_read = 0;
    REQUIRE(status.code() == StatusCode::kIo);
    REQUIRE(s.step(nth % 3 == 0).is_ok());
    REQUIRE(s.runner->mismatches == 0);
  }
}

TEST_CASE("Streaming: a file that has changed or been cut ends the step with an I/O error") {
  Streaming s;
  for (int i = 0; i < 3; ++i) s.scenario.add(DType::kQ8_0, 200, 96);
  REQUIRE(s.start(s.scenario.all(true), 2, 0));
  REQUIRE(s.step(false).is_ok());
  s.source->has_changed = true;
  REQUIRE(s.step(false).code() == StatusCode::kIo);
  s.source->has_changed = false;
  s.residency->invalidate();
  REQUIRE(s.step(false).is_ok());
  s.source->available_bytes = 8192;
  REQUIRE(s.step(false).code() == StatusCode::kIo);
}

TEST_CASE("Streaming: prime() reads nothing when the ring is ready, everything after invalidate()") {
  Streaming s;
  for (int i = 0; i < 3; ++i) s.scenario.add(DType::kQ8_0, 200, 96);
  REQUIRE(s.start(s.scenario.all(true), 2, 0));
  REQUIRE(s.residency->prime().is_ok());
  s.settle();
  const uint64_t primed = s.residency->streamed_bytes();
  REQUIRE(primed == s.file_bytes(0, 2));
  REQUIRE(s.residency->prime().is_ok());
  s.settle();
  REQUIRE(s.residency->streamed_bytes() == primed);
  s.residency->invalidate();
  REQUIRE(s.residency->prime().is_ok());
  s.settle();
  REQUIRE(s.residency->streamed_bytes() == 2 * primed);
}

TEST_CASE("Streaming: steps allocate nothing after the first of each kind") {
  Streaming s;
  for (int i = 0; i < 4; ++i) s.scenario.add(DType::kQ4_0, 200, 160);
  s.scenario.add(DType::kF16, 70, 50, MatrixUse::kLogits, true);
  REQUIRE(s.start(s.scenario.all(true), 2, 1));
  REQUIRE(s.step(true).is_ok());
  REQUIRE(s.step(false).is_ok());
  const uint64_t allocations = s.backend.allocations;
  const CancelToken cancel;
  const uint64_t before = heap_allocations();
  bool is_ok = true;
  for (int i = 0; i < 10; ++i) is_ok = is_ok && s.residency->prime().is_ok() && s.executor->run(s.steps[i % 2], *s.runner, cancel).is_ok();
  const uint64_t after = heap_allocations();
  REQUIRE(is_ok);
  REQUIRE(after == before);
  REQUIRE(s.backend.allocations == allocations);
}

}  // namespace
}  // namespace outrigger
