// A step's turns by words, on the host's side and on the device's.
#include <algorithm>

#include "src/base/macros.h"
#include "src/model/step_runner.h"

namespace outrigger {

Status StepRunner::take_over(const TaskNode& node) {
  const size_t tokens = input_.tokens.size();
  if (static_cast<StepOp>(node.op) == StepOp::kReceiveResidual) return handoff_->take(buffers_.residual, tokens * config_.width, *cancel_);
  const BranchWindow window = BranchWindow::of(node.argument);
  const uint64_t columns = layout_.weights[window_matrices(layout_, window)[0]].columns;
  return handoff_->take(args_.input_of(window), tokens * columns, *cancel_);
}

void StepRunner::give_residual(const TeamMember& member) {
  const Share mine = share_of(member, input_.tokens.size() * config_.width);
  handoff_->give(buffers_.residual, 0, mine.begin, mine.end);
}

void StepRunner::give_correction(const BranchWindow& window, const TeamMember& member) {
  uint64_t first = 0;
  for (const WindowResults& results : args_.results_of(window)) {
    if (results.data == nullptr) continue;
    const uint64_t floats = input_.tokens.size() * results.width;
    const Share mine = share_of(member, floats);
    handoff_->give(results.data, first, mine.begin, mine.end);
    first += floats;
  }
}

Status DeviceRunner::send(const float* src, uint64_t floats) {
  residency_.count_handoff(0, floats * sizeof(float));
  return launch(handoff_->send(src, floats));
}

Status DeviceRunner::receive_residual() {
  const uint64_t floats = args_.input().tokens.size() * config_.width;
  residency_.count_handoff(floats * sizeof(float), 0);
  return launch(handoff_->receive(buffers_.device.residual, 0, floats, /*accumulate=*/false));
}

Status DeviceRunner::receive_correction(const BranchWindow& window) {
  uint64_t first = 0;
  for (const WindowResults& results : args_.results_of(window)) {
    if (results.data == nullptr) continue;
    const uint64_t floats = args_.input().tokens.size() * results.width;
    OTR_TRY(launch(handoff_->receive(results.data, first, floats, /*accumulate=*/true)));
    first += floats;
  }
  residency_.count_handoff(first * sizeof(float), 0);
  return {};
}

// All else of turns on the device's track is their submission: how long it computed after the host's last turn is to be seen here.
Status DeviceRunner::finish_turns(NodeId node) {
  const int64_t begin_ns = Tracer::now_ns();
  Status status = finish();
  if (tracer_ != nullptr) tracer_->record(Lane::kDevice, node, std::max(begin_ns, handoff_->last_turn_ns()), Tracer::now_ns());
  return status;
}

}  // namespace outrigger
