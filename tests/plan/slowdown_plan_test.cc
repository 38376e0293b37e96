// plan_within_slowdown: on made-up machines, against all windows and shares there are.
#include "src/plan/slowdown_plan.h"

#include <algorithm>
#include <array>
#include <random>

#include "src/plan/branch_share.h"
#include "tests/support/catch.h"
#include "tests/support/few_cases.h"

namespace outrigger::testing {
namespace {

constexpr uint32_t kLayers = 3;

/// A layer's windows: what the device takes for each, what a hand-over takes, and what the host takes for a byte.
struct Machine {
  std::array<double, 4> product_ms = {0.1, 0.05, 0.4, 0.2};
  std::array<uint64_t, 4> branch_bytes = {100, 50, 400, 200};
  double handover_ms = 0.15, byte_ms = 0.001;
  bool has_device = true;
  int plans = 0;

  StepShape shape() const {
    StepShape shape;
    uint32_t window = 0;
    for (uint32_t layer = 0; layer < kLayers; ++layer) {
      for (size_t kind = 0; kind < 4; ++kind, ++window) {
        MatrixShape matrix;
        matrix.name = "blk." + std::to_string(layer) + ".m" + std::to_string(kind);
        matrix.layer = layer;
        matrix.window = window;
        matrix.part = kind < 2 ? MatrixPart::kAttention : MatrixPart::kFeedForward;
        matrix.packed_bytes = 1000;
        shape.matrices.push_back(matrix);
        matrix.is_branch = true;
        matrix.packed_bytes = branch_bytes[kind] / 2;
        shape.matrices.push_back(matrix);  // the first factor has the matrix's input
        matrix.adds_to_window = true;
        matrix.window = ++window;
        shape.matrices.push_back(matrix);
      }
    }
    return shape;
  }

  /// The host corrects while the device multiplies; what it takes longer is waited for.
  double step_ms(const StepShape& shape) const {
    double ms = 0;
    for (size_t i = 0; i < shape.matrices.size(); i += 3) {
      const size_t kind = i / 3 % 4;
      const double correcting = 2 * byte_ms * static_cast<double>(shape.matrices[i + 1].packed_bytes) * shape.matrices[i + 1].used_share;
      const bool is_used = shape.matrices[i + 1].used_share > 0;
      ms += has_device ? std::max(product_ms[kind], is_used ? handover_ms + correcting : 0) : product_ms[kind] + correcting;
    }
    return ms;
  }

  Plan plan(const StepShape& shape) {
    ++plans;
    Plan plan;
    plan.device.planned_bytes = plan.device.breakdown.weights_resident = has_device ? 1 : 0;
    plan.predicted_decode_tokens_per_s = 1000 / step_ms(shape);
    for (const MatrixShape& matrix : shape.matrices) plan.tensors.push_back({matrix.name, matrix.packed_bytes, 0});
    return plan;
  }
};

double used_bytes(const Plan& plan, const StepShape& shape) {
  double bytes = 0;
  for (const MatrixShape& matrix : with_corrections_of(plan, shape).matrices)
    bytes += matrix.is_branch ? matrix.used_share * static_cast<double>(matrix.packed_bytes) : 0;
  return bytes;
}

/// The most bytes that windows of any kinds, in any number of layers, use within the slowdown; or a share of all.
double most_bytes(const Machine& machine, double max_slowdown) {
  const StepShape shape = machine.shape();
  const std::vector<LayerWindow> windows = layer_windows(shape);
  const double most_ms = machine.step_ms(with_branch_share(shape, 0)) * (1 + max_slowdown);
  double most = 0;
  const auto consider = [&](const StepShape& used) {
    if (machine.step_ms(used) > most_ms) return;
    double bytes = 0;
    for (const MatrixShape& matrix : used.matrices)
      bytes += matrix.is_branch ? matrix.used_share * static_cast<double>(matrix.packed_bytes) : 0;
    most = std::max(most, bytes);
  };
  for (int step = 1; step <= 32; ++step) consider(with_branch_share(shape, step / 32.0));
  constexpr uint32_t kCounts = kLayers + 1;
  for (uint32_t set = 1; set < kCounts * kCounts * kCounts * kCounts; ++set) {
    const std::array<uint32_t, 4> layers = {set % kCounts, set / kCounts % kCounts, set / kCounts / kCounts % kCounts,
                                            set / kCounts / kCounts / kCounts};
    std::vector<bool> is_corrected;
    for (size_t i = 0; i < windows.size(); ++i) is_corrected.push_back(shape.matrices[i].layer < layers[static_cast<size_t>(windows[i])]);
    consider(with_branch_share(shape, 1, is_corrected));
  }
  return most;
}

Plan planned(Machine* machine, double max_slowdown) {
  machine->plans = 0;
  Result<Plan> plan = plan_within_slowdown(machine->shape(), max_slowdown,
                                           [machine](const StepShape& shape) -> Result<Plan> { return machine->plan(shape); });
  REQUIRE(plan.is_ok());
  REQUIRE(machine->plans <= 23);
  return std::move(plan).value();
}

TEST_CASE("plan_within_slowdown: hand-overs that large windows hide are kept, those of small ones are left out") {
  Machine machine;
  machine.byte_ms = 0.0002;
  const Plan plan = planned(&machine, 0.05);
  const std::vector<LayerWindow> windows = layer_windows(machine.shape());
  CHECK(plan.branch_share == 1);
  std::array<int, 4> corrected{};
  for (size_t i = 0; i < windows.size(); ++i) corrected[static_cast<size_t>(windows[i])] += plan.tensors[i].is_corrected ? 1 : 0;
  CHECK(corrected == std::array<int, 4>{3, 0, 9, 9});  // of the first ones there is time for a single layer's
}

TEST_CASE("plan_within_slowdown: without a device, and where everything keeps to it, no window is left out") {
  Machine machine;
  machine.has_device = false;
  Plan plan = planned(&machine, 0.05);
  CHECK(plan.branch_share > 0);
  CHECK(plan.branch_share < 1);
  for (const TensorPlacement& tensor : plan.tensors) CHECK(tensor.is_corrected);
  machine.has_device = true;
  plan = planned(&machine, 100);
  CHECK(plan.branch_share == 1);
  for (const TensorPlacement& tensor : plan.tensors) CHECK(tensor.is_corrected);
  CHECK(machine.plans == 2);
}

TEST_CASE("plan_within_slowdown: on random machines it keeps to the slowdown and comes near the most bytes of any windows") {
  std::mt19937 random(5);
  std::uniform_real_distribution<double> part(0, 1);
  double least = 1, sum = 0;
  const int cases = static_cast<int>(seeds(400));
  for (int i = 0; i < cases; ++i) {
    Machine machine;
    for (double& ms : machine.product_ms) ms = 0.02 + part(random) * 0.4;
    for (uint64_t& bytes : machine.branch_bytes) bytes = 2 + 2 * static_cast<uint64_t>(part(random) * 300);
    machine.handover_ms = 0.2 * part(random);
    machine.byte_ms = 0.002 * part(random);
    const double slowdown = 0.2 * part(random);
    CAPTURE(i);
    const Plan plan = planned(&machine, slowdown);
    REQUIRE(1000 / plan.predicted_decode_tokens_per_s <=
            machine.step_ms(with_branch_share(machine.shape(), 0)) * (1 + slowdown) * (1 + 1e-9));
    const double most = most_bytes(machine, slowdown), got = used_bytes(plan, machine.shape());
    REQUIRE(got <= most + 1e-9);
    const double reached = most > 0 ? got / most : 1;
    least = std::min(least, reached);
    sum += reached;
  }
  CAPTURE(sum / cases, least);
  CHECK(sum / cases > 0.99);
  CHECK(least > 0.9);
}

TEST_CASE("plan_within_slowdown: layers of any number are planned for") {
  Machine machine;
  machine.byte_ms = 0.0002;
  StepShape shape = machine.shape();
  for (MatrixShape& matrix : shape.matrices) matrix.layer = UINT32_MAX - kLayers + 1 + matrix.layer;
  const Result<Plan> plan =
      plan_within_slowdown(shape, 0.05, [&machine](const StepShape& used) -> Result<Plan> { return machine.plan(used); });
  REQUIRE(plan.is_ok());
  CHECK(used_bytes(plan.value(), shape) > 0);
}

TEST_CASE("layer_windows: second factors are of the window whose results they add to, and what is no layer's is none") {
  StepShape shape = Machine().shape();
  MatrixShape head;
  head.use = MatrixUse::kLogits;
  head.part = MatrixPart::kHead;
  head.layer = kLayers;
  shape.matrices.push_back(head);
  MatrixShape router;
  router.layer = 1;
  shape.matrices.insert(shape.matrices.begin() + 18, router);  // between a layer's attention and its feed-forward part
  const std::vector<LayerWindow> windows = layer_windows(shape);
  size_t at = 0;
  for (uint32_t layer = 0; layer < kLayers; ++layer) {
    for (uint8_t kind = 0; kind < 4; ++kind) {
      if (at == 18) CHECK(windows[at++] == LayerWindow::kNone);
      for (int factor = 0; factor < 3; ++factor) CHECK(windows[at++] == static_cast<LayerWindow>(kind));
    }
  }
  CHECK(windows[at] == LayerWindow::kNone);
}

}  // namespace
}  // namespace outrigger::testing
