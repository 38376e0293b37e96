// DeviceRunner: the nodes of a step's graph that a device computes, and the copies to and from it.
#ifndef OUTRIGGER_SRC_MODEL_DEVICE_RUNNER_H_
#define OUTRIGGER_SRC_MODEL_DEVICE_RUNNER_H_

#include <outrigger/engine.h>
#include <outrigger/status.h>

#include <cstdint>
#include <optional>
#include <span>

#include "src/device/backend.h"
#include "src/graph/executor.h"
#include "src/graph/tracer.h"
#include "src/memory/device_residency.h"
#include "src/model/handoff.h"
#include "src/model/layout.h"
#include "src/model/step_args.h"
#include "src/model/step_buffers.h"

namespace outrigger {

/// Where a step's activations are on either side.
struct SideBuffers {
  StepBuffers host, device;
};

/// Operations of a lane are submitted one after the other; the end of a segment waits for them, since another lane may depend on it, unless
/// it ends with kSubmit. The bits are StepRunner's: each operation is the whole of what its threads share there. Owns nothing but views.
/// Threads: as NodeRunner. Allocates nothing.
class DeviceRunner final : public NodeRunner {
 public:
  /// `home` is where weights that stream to the device are resident; `fixed`, an address of the device, the layout's fixed tensors;
  /// `handoff` of graphs by words, null: there are none. All references must outlive the runner.
  DeviceRunner(const ModelLayout& layout, DeviceResidency& residency, const OperandSource& home, const SideBuffers& buffers,
               const float* fixed, Numerics numerics, Handoff* handoff = nullptr);

  void begin(const StepInput& input) {
    args_.begin(input);
    host_args_.begin(input);
    input_.reset();
  }
  void trace_to(Tracer* tracer) { tracer_ = tracer; }
  Status run_segment(const TaskGraph& graph, Lane lane, std::span<const NodeId> nodes) override;

  /// Whether the buffers' scratch suffices on this device, which a plan can only have been told. Errors: kInvalidArgument.
  static Status check_scratch(const Backend& backend, const ModelConfig& config, uint32_t threads);

 private:
  Status run_copy(const TaskNode& node);
  Status upload_tree();
  Status compute(const TaskGraph& graph, const TaskNode& node);
  Status launch(const DeviceOp& op) { return backend_.launch(residency_.streams().compute, op); }
  Status norm(const float* src, uint64_t weight, float* dst, size_t rows, size_t width);
  Status output_norm();
  Status rope_and_append(uint32_t layer);
  Status norm_heads(uint64_t weight, float* first, uint32_t heads);
  Status attend(uint32_t layer);
  Status silu(uint32_t layer);
  Status download_input(const BranchWindow& window);
  Status upload_correction(const BranchWindow& window);
  Status add_correction(const BranchWindow& window);
  Status finish();
  Status finish_turns(NodeId node);
  Status send(const float* src, uint64_t floats);
  Status receive_residual();
  Status receive_correction(const BranchWindow& window);
  Status product(const TaskGraph& graph, const TaskNode& node);
  Status branch_panels(const BranchWindow& window);
  /// As StepRunner's quantize() and quantize_finely(), of all rows.
  Status quantize(const float* src, uint32_t matrix, size_t tokens);
  Status quantize_finely(uint32_t matrix, size_t tokens);

  const ModelLayout& layout_;
  const ModelConfig& config_;
  DeviceResidency& residency_;
  Backend& backend_;
  const OperandSource& home_;
  const SideBuffers buffers_;
  Handoff* const handoff_;
  StepArgs args_;
  StepArgs host_args_;          ///< for where the host's activations are, and nothing else
  std::optional<Event> input_;  ///< of the segment that runs: when the input that the host waits for is there
  Tracer* tracer_ = nullptr;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_DEVICE_RUNNER_H_
