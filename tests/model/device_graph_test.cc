// A step's graph with a device, played in any order that its dependencies allow: the residual is where it is used, and so is every unit.
#include <map>
#include <random>
#include <set>

#include "src/device/backend.h"
#include "src/model/model_impl.h"
#include "src/model/step_graph.h"
#include "tests/support/device_plans.h"

namespace outrigger::testing {
namespace {

struct Setup {
  Model model;
  Plan plan;
  std::unique_ptr<Backend> backend = must(open_backend("emulated:memory=64MiB,link=20GB/s"));
  std::unique_ptr<TensorResidency> residency;

  Setup(const char* name, bool reads_disk, const PlaceOf& place_of, const DeviceSetup& setup)
      : model(must(Model::open(tiny_model_path(name)))) {
    EngineSetup host{.context_tokens = 64};
    if (reads_disk) host.host_bytes = smallest_budget(model, host) + 20000;
    plan = placed_on_device(must(plan_for(model, host)), must(model.step_shape()), place_of, setup);
    residency =
        must(TensorResidency::create(*backend, model.impl()->file.shared_source(), layout().shape, layout().weights, plan, backend.get()));
  }
  const ModelLayout& layout() const { return *model.impl()->layout; }
};

bool uses_residual(StepOp op) {
  return op == StepOp::kAttentionNorm || op == StepOp::kOutput || op == StepOp::kFfnNorm || op == StepOp::kDown ||
         op == StepOp::kOutputNorm || op == StepOp::kCombine;
}

// Runs one lane's next node after the other, lanes in random order, each as soon as its dependencies are done.
class Play {
 public:
  Play(const Setup& setup, const TaskGraph& graph) : setup_(setup), graph_(graph) {
    const StreamLayout& ring = setup.residency->device()->stream();
    for (uint32_t unit = 0; unit < ring.ring_slots; ++unit) slots_.push_back(unit);
  }

  void run(uint32_t seed) {
    std::mt19937 random(seed);
    size_t next[kLanes] = {};
    while (done_.size() < graph_.nodes().size()) {
      const auto lane = static_cast<Lane>(random() % kLanes);
      size_t& at = next[static_cast<size_t>(lane)];
      if (at == graph_.lane_nodes(lane).size()) continue;
      const NodeId id = graph_.lane_nodes(lane)[at];
      const std::span<const NodeId> before = graph_.dependencies(graph_.nodes()[id]);
      if (!std::all_of(before.begin(), before.end(), [&](NodeId node) { return done_.count(node) == 1; })) continue;
      perform(graph_.nodes()[id]);
      done_.insert(id);
      ++at;
    }
    // The next step finds the ring as this one did.
    for (uint32_t unit = 0; unit < slots_.size(); ++unit) REQUIRE(slots_[(next_slot_ + unit) % slots_.size()] == unit);
  }

 private:
  void perform(const TaskNode& node) {
    const auto op = static_cast<StepOp>(node.op);
    const Lane side = is_there_ ? Lane::kDevice : Lane::kHost;
    if (op == StepOp::kUpload) REQUIRE_FALSE(std::exchange(is_there_, true));
    if (op == StepOp::kDownload) REQUIRE(std::exchange(is_there_, false));
    if (op == StepOp::kUploadAngles) has_angles_ = true;
    if (uses_residual(op)) REQUIRE(node.lane == side);
    if (op == StepOp::kRopeAppend && node.lane == Lane::kDevice) REQUIRE(has_angles_);
    if (op == StepOp::kArriveOnDevice) {
      REQUIRE(std::count(slots_.begin(), slots_.end(), node.argument) == 1);
      arrived_.insert(node.argument);
    }
    if (op == StepOp::kRequestToDevice) {
      REQUIRE(used_.count(slots_[next_slot_]) == 1);
      arrived_.erase(slots_[next_slot_]);
      slots_[next_slot_] = node.argument;
      next_slot_ = (next_slot_ + 1) % slots_.size();
    }
    if (node.lane == Lane::kDevice) use_operands(node);
  }

  void use_operands(const TaskNode& node) {
    const DeviceResidency& device = *setup_.residency->device();
    for (const OperandRef& operand : graph_.operands(node)) {
      if (device.is_resident(operand.matrix)) continue;
      for (uint32_t unit = 0; unit < device.stream().units.size(); ++unit) {
        for (const StreamPiece& piece : device.stream().units[unit].pieces) {
          if (piece.matrix != operand.matrix || piece.first_block != operand.first_block) continue;
          REQUIRE(arrived_.count(unit) == 1);
          used_.insert(unit);
        }
      }
    }
  }

  const Setup& setup_;
  const TaskGraph& graph_;
  bool is_there_ = false, has_angles_ = false;
  std::vector<uint32_t> slots_;
  uint32_t next_slot_ = 0;
  std::set<NodeId> done_;
  std::set<uint32_t> arrived_, used_;
};

const PlaceOf kPlaces[] = {
    [](const MatrixShape&) { return Place::kStreamed; },
    [](const MatrixShape& matrix) { return matrix.part == MatrixPart::kFeedForward ? Place::kStreamed : Place::kHost; },
    [](const MatrixShape& matrix) { return matrix.layer % 2 == 0 ? Place::kStreamed : Place::kDevice; },
    [](const MatrixShape& matrix) { return matrix.part == MatrixPart::kAttention ? Place::kDevice : Place::kHost; },
    [](const MatrixShape& matrix) { return matrix.layer == 1 ? Place::kStreamed : Place::kHost; },
};

TEST_CASE(
    "Device graph: in whatever order lanes run, residual, angles and units are there when they are used, and no slot is overwritten "
    "before") {
  for (const char* name : {"odd-f32", "tied-q4_1", "llama3-mixed", "qwen3", "mixtral"}) {
    for (size_t place = 0; place < std::size(kPlaces); ++place) {
      for (const bool reads_disk : {false, true}) {
        const Setup setup(name, reads_disk, kPlaces[place], {1, 2 + static_cast<uint32_t>(place % 2), 0, 1});
        for (const bool with_logits : {false, true}) {
          CAPTURE(name, place, reads_disk, with_logits);
          const TaskGraph graph =
              must(build_step_graph(setup.layout(), setup.plan, *setup.residency, {with_logits, 1, setup.plan.device_from_tokens > 0}));
          for (uint32_t seed = 0; seed < 5; ++seed) Play(setup, graph).run(seed);
        }
      }
    }
  }
}

TEST_CASE("Device graph: each row block of each multiplied matrix is an operand once, of the lane where its part is") {
  for (size_t place = 0; place < std::size(kPlaces); ++place) {
    for (const bool streams : {false, true}) {
      const bool attention_streams = place == 0 || place == 2 || place == 4;
      if (attention_streams && !streams) continue;  // every step streams then
      const Setup setup("tied-q4_1", false, kPlaces[place], {attention_streams ? 1u : 4u, 2, 0, 1});
      const TaskGraph graph =
          must(build_step_graph(setup.layout(), setup.plan, *setup.residency, {true, 1, streams && setup.plan.device_from_tokens > 0}));
      std::map<uint32_t, uint64_t> blocks;
      for (const TaskNode& node : graph.nodes()) {
        for (const OperandRef& operand : graph.operands(node)) {
          CAPTURE(place, streams, operand.matrix);
          const TensorPlacement& tensor = setup.plan.tensors[operand.matrix];
          const bool is_there = tensor.tier == Tier::kDevice && (tensor.mode == Residence::kResident || streams);
          CHECK(node.lane == (is_there ? Lane::kDevice : Lane::kHost));
          blocks[operand.matrix] += operand.blocks;
        }
      }
      for (uint32_t matrix = 0; matrix < setup.layout().weights.size(); ++matrix) {
        if (setup.layout().shape.matrices[matrix].use != MatrixUse::kRowLookup)
          CHECK(blocks[matrix] == setup.layout().weights[matrix].blocks());
      }
    }
  }
}

// A step by words, played: lanes run in random order as their dependencies allow, the device does what was submitted in order, and both
// wait for each other's words.
class WordsPlay {
 public:
  explicit WordsPlay(const TaskGraph& graph) : graph_(graph) {}

  void run(uint32_t seed) {
    std::mt19937 random(seed);
    size_t next[kLanes] = {}, idle = 0;
    while (done_.size() < graph_.nodes().size()) {
      const size_t lane = random() % (kLanes + 1);
      const bool has_moved = lane == kLanes ? run_device() : run_lane(static_cast<Lane>(lane), &next[lane]);
      idle = has_moved ? 0 : idle + 1;
      REQUIRE(idle < 1000);  // nobody can go on
    }
    REQUIRE(device_at_ == submitted_.size());
    REQUIRE(sent_ == taken_);
  }
  size_t turns() const { return taken_; }

 private:
  bool run_lane(Lane lane, size_t* at) {
    if (*at == graph_.lane_nodes(lane).size()) return false;
    const NodeId id = graph_.lane_nodes(lane)[*at];
    const TaskNode& node = graph_.nodes()[id];
    for (const NodeId before : graph_.dependencies(node)) {
      if (done_.count(before) == 0) return false;
    }
    const auto op = static_cast<StepOp>(node.op);
    if (lane == Lane::kDevice) {
      if (op == StepOp::kFinish && device_at_ < submitted_.size()) return false;
      if (op == StepOp::kSubmit) begun_ = submitted_.size();
      if (op == StepOp::kFinish) begun_ = submitted_.size();
      if (op != StepOp::kSubmit && op != StepOp::kFinish) submitted_.push_back(id);
    } else if (op == StepOp::kReceiveResidual || op == StepOp::kReceiveInput) {
      if (sent_ == taken_) return false;
      ++taken_;
      is_there_ = is_there_ && op == StepOp::kReceiveInput;
    } else if (lane == Lane::kHost && (op == StepOp::kSendResidual || op == StepOp::kSendCorrection)) {
      ++given_;
    } else if (op == StepOp::kUpload) {
      is_there_ = true;
    } else if (uses_residual(op)) {
      REQUIRE_FALSE(is_there_);
    }
    done_.insert(id);
    ++*at;
    return true;
  }

  // The next of what was submitted and has begun.
  bool run_device() {
    if (device_at_ == begun_) return false;
    const TaskNode& node = graph_.nodes()[submitted_[device_at_]];
    const auto op = static_cast<StepOp>(node.op);
    if (op == StepOp::kReceiveResidual || op == StepOp::kReceiveCorrection) {
      if (given_ < sent_) return false;
      is_there_ = true;
    }
    if (op == StepOp::kSendResidual || op == StepOp::kSendInput) ++sent_;
    if (uses_residual(op)) REQUIRE(is_there_);
    ++device_at_;
    return true;
  }

  const TaskGraph& graph_;
  std::set<NodeId> done_;
  std::vector<NodeId> submitted_;
  size_t begun_ = 0, device_at_ = 0, sent_ = 0, taken_ = 0, given_ = 0;
  bool is_there_ = false;
};

TEST_CASE("Device graph: by words nobody waits for ever, whoever is first, and the residual is where it is used") {
  const PlaceOf places[] = {
      [](const MatrixShape&) { return Place::kDevice; },
      [](const MatrixShape& matrix) { return matrix.part == MatrixPart::kAttention ? Place::kDevice : Place::kHost; },
      [](const MatrixShape& matrix) { return matrix.part == MatrixPart::kFeedForward ? Place::kDevice : Place::kHost; },
      [](const MatrixShape& matrix) { return matrix.part == MatrixPart::kHead ? Place::kDevice : Place::kHost; },
      [](const MatrixShape& matrix) { return matrix.layer == 1 ? Place::kHost : Place::kDevice; },
  };
  for (const char* name : {"tied-q4_1", "llama3-mixed", "mixtral"}) {
    for (size_t place = 0; place < std::size(places); ++place) {
      for (const bool reads_disk : {false, true}) {
        const Setup setup(name, reads_disk, places[place], {});
        for (const bool with_logits : {false, true}) {
          CAPTURE(name, place, reads_disk, with_logits);
          StepGraphOptions options{with_logits, 1};
          options.by_words = true;
          const TaskGraph graph = must(build_step_graph(setup.layout(), setup.plan, *setup.residency, options));
          for (uint32_t seed = 0; seed < 5; ++seed) {
            WordsPlay play(graph);
            play.run(seed);
            if (place == 1) CHECK(play.turns() == setup.layout().layers.size());
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace outrigger::testing
