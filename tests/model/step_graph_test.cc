// The step's graph: every product covered, every fetch where its slot is free, at any budget.
#include "src/model/step_graph.h"

#include <map>
#include <set>

#include "src/device/backend.h"
#include "src/model/model_impl.h"
#include "tests/support/engines.h"

namespace outrigger::testing {
namespace {

struct Setup {
  Model model;
  Plan plan;
  std::unique_ptr<Backend> backend;
  std::unique_ptr<TensorResidency> residency;

  Setup(const char* name, uint64_t extra_bytes) : model(must(Model::open(tiny_model_path(name)))) {
    EngineSetup setup;
    setup.host_bytes = smallest_budget(model, setup) + extra_bytes;
    plan = must(plan_for(model, setup));
    backend = must(open_backend("cpu"));
    residency = must(TensorResidency::create(*backend, model.impl()->file.shared_source(), layout().shape, layout().weights, plan));
  }
  const ModelLayout& layout() const { return *model.impl()->layout; }
};

// Unit that holds this operand, or -1 for a resident one.
int unit_of(const Setup& setup, const OperandRef& operand) {
  const StreamLayout& stream = setup.residency->stream();
  for (size_t unit = 0; unit < stream.units.size(); ++unit) {
    for (const StreamPiece& piece : stream.units[unit].pieces) {
      if (piece.matrix == operand.matrix && piece.first_block == operand.first_block) return static_cast<int>(unit);
    }
  }
  return -1;
}

TEST_CASE("StepGraph: each row block of each multiplied matrix is an operand exactly once") {
  for (const char* name : {"odd-f32", "tied-q4_1", "llama3-mixed", "q8_0-one-layer"}) {
    for (const uint64_t extra : {0, 30000, 10000000}) {
      for (const bool with_logits : {false, true}) {
        CAPTURE(name, extra, with_logits);
        const Setup setup(name, extra);
        const TaskGraph graph = must(build_step_graph(setup.layout(), setup.plan, *setup.residency, {with_logits, 1}));
        std::map<uint32_t, std::multiset<uint32_t>> blocks;
        for (const TaskNode& node : graph.nodes()) {
          for (const OperandRef& operand : graph.operands(node)) {
            for (uint32_t block = 0; block < operand.blocks; ++block) blocks[operand.matrix].insert(operand.first_block + block);
          }
        }
        for (uint32_t matrix = 0; matrix < setup.layout().weights.size(); ++matrix) {
          const MatrixUse use = setup.layout().shape.matrices[matrix].use;
          const bool wanted = use == MatrixUse::kEveryToken || (use == MatrixUse::kLogits && with_logits);
          std::multiset<uint32_t> all;
          for (uint32_t block = 0; wanted && block < (setup.layout().weights[matrix].rows + 15) / 16; ++block) all.insert(block);
          CHECK(blocks[matrix] == all);
        }
      }
    }
  }
}

TEST_CASE(
    "StepGraph: played in lane order, no unit is used before it came or overwritten before it was used, and steps follow each other") {
  for (const char* name : {"odd-f32", "tied-q4_1", "llama3-mixed"}) {
    const Setup setup(name, 0);
    const StreamLayout& stream = setup.residency->stream();
    REQUIRE(stream.ring_slots > 0);
    const TaskGraph with = must(build_step_graph(setup.layout(), setup.plan, *setup.residency, {true, 1})),
                    without = must(build_step_graph(setup.layout(), setup.plan, *setup.residency, {false, 1}));
    std::vector<uint32_t> ring;  // unit in each slot
    for (uint32_t unit = 0; unit < stream.ring_slots; ++unit) ring.push_back(unit);
    uint32_t next_slot = 0;
    for (const bool with_logits : {true, false, false, true, true, false}) {
      CAPTURE(name, with_logits);
      const TaskGraph& graph = with_logits ? with : without;
      std::set<NodeId> done;
      std::set<uint32_t> arrived;
      for (NodeId id = 0; id < graph.nodes().size(); ++id) {
        const TaskNode& node = graph.nodes()[id];
        for (const NodeId dependency : graph.dependencies(node)) CHECK(done.count(dependency) == 1);
        if (node.op == static_cast<uint16_t>(StepOp::kArrive)) {
          CHECK(std::count(ring.begin(), ring.end(), node.argument) == 1);
          arrived.insert(node.argument);
        }
        if (node.op == static_cast<uint16_t>(StepOp::kRequest)) {
          arrived.erase(ring[next_slot]);
          ring[next_slot] = node.argument;
          next_slot = (next_slot + 1) % stream.ring_slots;
        }
        for (const OperandRef& operand : graph.operands(node)) {
          const int unit = unit_of(setup, operand);
          if (unit >= 0) CHECK(arrived.count(static_cast<uint32_t>(unit)) == 1);
        }
        done.insert(id);
      }
      for (uint32_t unit = 0; unit < stream.ring_slots; ++unit) CHECK(std::count(ring.begin(), ring.end(), unit) == 1);
    }
  }
}

TEST_CASE("StepGraph: a model that is resident altogether needs one segment and no disk lane") {
  const Setup setup("tied-q4_1", 100000000);
  const TaskGraph graph = must(build_step_graph(setup.layout(), setup.plan, *setup.residency, {true, 1}));
  CHECK(graph.lane_nodes(Lane::kDisk).empty());
  CHECK(graph.segments().size() == 1);
}

}  // namespace
}  // namespace outrigger::testing
