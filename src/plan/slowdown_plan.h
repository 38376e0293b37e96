// Slowdown plan: how much of a model's branches and residuals a plan uses where a step may only take so much longer for them.
#ifndef OUTRIGGER_SRC_PLAN_SLOWDOWN_PLAN_H_
#define OUTRIGGER_SRC_PLAN_SLOWDOWN_PLAN_H_

#include <outrigger/plan.h>
#include <outrigger/status.h>
#include <outrigger/step_shape.h>

#include <functional>

namespace outrigger {

/// Makes a plan for a shape whose steps use all that it says of corrections.
using PlanOfShape = std::function<Result<Plan>(const StepShape& shape)>;

/// The plan that uses most bytes of corrections of those tried which decode at least 1 / (1 + max_slowdown) times as fast as without any.
/// Of all windows the same share, in steps of a 32nd. With a device also all of some windows and nothing of the others
/// (TensorPlacement::is_corrected): a window that the host corrects beside a device costs its hand-over, however little is corrected, and
/// what the device takes for a large one hides a part of that. A layer's four are taken in the order of what they cost for a byte, each
/// alone, in all layers or in as many as keep to it, spread evenly.
/// Precondition: a share that is larger is not faster. Cost: at most 16 plans, and four times log2 of the layers. Errors: those of
/// `plan_of`.
/// @source HCInfer (arXiv 2605.05819) corrects every window; a fixed charge for each is ours.
Result<Plan> plan_within_slowdown(const StepShape& shape, double max_slowdown, const PlanOfShape& plan_of);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_PLAN_SLOWDOWN_PLAN_H_
