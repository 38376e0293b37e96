// Slowdown budget: a plan for the model as it will be without corrections.
#include "src/compress/slowdown_budget.h"

#include <outrigger/plan.h>

#include <algorithm>

#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/compress/matrix_plan.h"
#include "src/plan/correction_cost.h"
#include "src/tensor/packed.h"

namespace outrigger {
namespace {

StepShape in_few_bits(const ModelLayout& layout, DType type) {
  StepShape shape = layout.shape;
  const PackedKind kind = *packed_kind(type);
  for (const uint32_t index : matrices_of_layers(layout)) {
    MatrixShape& matrix = shape.matrices[index];
    matrix.file_bytes = matrix.packed_bytes = packed_bytes(kind, matrix.rows, matrix.columns) * matrix.experts;
    matrix.row_block_file_bytes = matrix.row_block_bytes = packed_block_bytes(kind, matrix.columns);
    matrix.product = ProductKind::kInt8;
  }
  return shape;
}

MachineProfile host_of(MachineProfile machine) {
  machine.device_memory_bytes = 0;
  machine.device_stream_bytes = {};
  return machine;
}

}  // namespace

Result<uint64_t> bytes_within_slowdown(const ModelLayout& layout, DType type, const MachineProfile& machine, double slowdown) {
  const StepShape shape = in_few_bits(layout, type);
  Workload workload;
  workload.prompt_tokens = static_cast<uint32_t>(std::min<uint64_t>(workload.prompt_tokens, shape.context_tokens / 2));
  workload.new_tokens = static_cast<uint32_t>(std::min<uint64_t>(workload.new_tokens, shape.context_tokens / 2));
  OTR_ASSIGN(const Plan plan, PlacementPlanner::plan(shape, host_of(machine), {Budgets::kUnlimited, Budgets::kUnlimited}, workload));
  double windows = 0;  // that can have branches
  for (uint32_t layer = 0; layer < layout.config.layers; ++layer) {
    for (const Window& window : windows_of(layout, layer)) windows += !is_stack(layout, window.matrices.front());
  }
  const double token_s = plan.decode.predicted_ms * 1e-3, windows_s = kBranchWindowS * windows, left_s = slowdown * token_s - windows_s;
  if (left_s > 0) return static_cast<uint64_t>(left_s * machine.host_stream_bytes.per_s);
  return Status(StatusCode::kInvalidArgument, formatted("max_slowdown is {:.1f} % of {:.2f} ms a token, which is less than what branches "
                                                        "take whatever their size; need more than {:.1f} %",
                                                        100 * slowdown, 1e3 * token_s, 100 * windows_s / token_s));
}

}  // namespace outrigger
