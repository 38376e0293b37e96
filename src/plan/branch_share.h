// Branch share: what steps that use a part of their branches and residuals are to the planner.
#ifndef OUTRIGGER_SRC_PLAN_BRANCH_SHARE_H_
#define OUTRIGGER_SRC_PLAN_BRANCH_SHARE_H_

#include <outrigger/plan.h>
#include <outrigger/step_shape.h>

#include <cstdint>
#include <vector>

namespace outrigger {

/// A dense layer's windows in the order of a step. kNone: of no layer, or of what the host alone computes.
enum class LayerWindow : uint8_t { kQkv = 0, kOutput = 1, kGateUp = 2, kDown = 3, kNone = 4 };

/// Per matrix; a branch's second factor is of the window whose results it adds to.
std::vector<LayerWindow> layer_windows(const StepShape& shape);

/// The shape whose steps use so much of its branches and residuals, from 0 to 1: they take less time, and the same memory.
StepShape with_branch_share(StepShape shape, double share);
/// The same, and nothing of those of the matrices for which `is_corrected` is false.
StepShape with_branch_share(StepShape shape, double share, const std::vector<bool>& is_corrected);
/// As the plan says. Precondition: its tensors are the shape's matrices.
StepShape with_corrections_of(const Plan& plan, StepShape shape);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_PLAN_BRANCH_SHARE_H_
