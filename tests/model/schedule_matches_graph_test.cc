// The schedule that a plan is drawn from, and the graph that the engine runs: the same nodes in the same order.
#include "src/device/backend.h"
#include "src/model/model_impl.h"
#include "src/model/step_graph.h"
#include "src/plan/schedule.h"
#include "tests/support/deep_model.h"

namespace outrigger::testing {
namespace {

struct Node {
  int64_t unit;  // of a fetch; of a product the one it reads, -1 for none
  uint64_t bytes;
  bool operator==(const Node& other) const { return unit == other.unit && bytes == other.bytes; }
};

struct Lanes {
  std::vector<Node> products, fetches;
  std::vector<uint32_t> attentions;  // layers
  std::vector<std::pair<char, uint32_t>> disk;  // what the disk does: a unit, or the layer whose keys and values are fetched or stored
};

Lanes lanes_of(const StepSchedule& schedule) {
  Lanes lanes;
  for (const ScheduledTask& task : schedule.tasks) {
    if (task.kind == TaskKind::kFetch) lanes.fetches.push_back({task.unit, task.bytes});
    if (task.kind == TaskKind::kFetch) lanes.disk.emplace_back('u', task.unit);
    if (task.kind == TaskKind::kFetchKv) lanes.disk.emplace_back('f', task.layer);
    if (task.kind == TaskKind::kStoreKv) lanes.disk.emplace_back('s', task.layer);
    if (task.kind == TaskKind::kAttention) lanes.attentions.push_back(task.layer);
    if (task.kind != TaskKind::kProduct && task.kind != TaskKind::kHead) continue;
    lanes.products.push_back({task.unit == kNoUnit ? -1 : static_cast<int64_t>(task.unit), task.bytes});
  }
  return lanes;
}

Lanes lanes_of(const TaskGraph& graph, const TensorResidency& residency, const StepShape& shape) {
  Lanes lanes;
  for (const TaskNode& node : graph.nodes()) {
    const auto op = static_cast<StepOp>(node.op);
    if (op == StepOp::kAttention) lanes.attentions.push_back(node.argument);
    if (op == StepOp::kRequest) lanes.fetches.push_back({node.argument, residency.stream().units[node.argument].file_bytes});
    if (op == StepOp::kRequest) lanes.disk.emplace_back('u', node.argument);
    if (op == StepOp::kFetchKv) lanes.disk.emplace_back('f', node.argument);
    if (op == StepOp::kStoreKv) lanes.disk.emplace_back('s', node.argument);
    if (graph.operands(node).empty()) continue;
    Node product{-1, 0};
    for (const OperandRef& operand : graph.operands(node)) {
      product.bytes += operand.blocks * shape.matrices[operand.matrix].row_block_bytes;
      for (size_t unit = 0; unit < residency.stream().units.size(); ++unit) {
        for (const StreamPiece& piece : residency.stream().units[unit].pieces) {
          if (piece.matrix == operand.matrix && piece.first_block == operand.first_block) product.unit = static_cast<int64_t>(unit);
        }
      }
    }
    lanes.products.push_back(product);
  }
  return lanes;
}

void compare(const Model& model, EngineSetup setup) {
  const ModelLayout& layout = *model.impl()->layout;
  const uint64_t least = smallest_budget(model, setup);
  for (const uint64_t extra : {0, 20000, 40000, 100000, 10000000}) {
    setup.host_bytes = least + extra;
    const Plan plan = must(plan_for(model, setup));
    const std::unique_ptr<Backend> backend = must(open_backend("cpu"));
    const auto residency = must(TensorResidency::create(*backend, model.impl()->file.shared_source(), layout.shape, layout.weights, plan));
    for (const bool with_logits : {false, true}) {
      CAPTURE(extra, with_logits, plan.kv_spilled_layers);
      const StepSchedule schedule = must(schedule_step(layout.shape, plan, made_up_machine(2), {1, 10, with_logits ? 1u : 0u}));
      const Lanes planned = lanes_of(schedule),
                  built = lanes_of(must(build_step_graph(layout, plan, *residency, {with_logits, 1})), *residency, layout.shape);
      CHECK(planned.products == built.products);
      CHECK(planned.fetches == built.fetches);
      CHECK(planned.attentions == built.attentions);
      CHECK(planned.disk == built.disk);
    }
  }
}

TEST_CASE("Schedule and graph: at every budget the same products, attentions and fetches, in the same order") {
  for (const char* name : {"odd-f32", "tied-q4_1", "llama3-mixed", "linear-f16", "qwen2", "llama-biases"}) {
    CAPTURE(name);
    compare(must(Model::open(tiny_model_path(name))), {});
  }
}

TEST_CASE("Schedule and graph: keys and values go to and from the disk in the same order between them") {
  for (const char* name : {"tied-q4_1", "llama3-mixed"}) {
    const std::vector<std::byte> bytes = deep_model(name, 9, 256);
    const Model model = must(Model::open_memory(bytes));
    for (const uint32_t spilled : {1u, 2u, 3u, 5u, 9u}) {
      CAPTURE(name, spilled);
      compare(model, {.kv_spilled_layers = spilled});
    }
  }
}

}  // namespace
}  // namespace outrigger::testing
