// Branch share: what steps that use a part of their branches and residuals are to the planner.
#ifndef OUTRIGGER_SRC_PLAN_BRANCH_SHARE_H_
#define OUTRIGGER_SRC_PLAN_BRANCH_SHARE_H_

#include <outrigger/step_shape.h>

namespace outrigger {

/// The shape whose steps use so much of its branches and residuals, from 0 to 1: they take less time, and the same memory.
StepShape with_branch_share(StepShape shape, double share);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_PLAN_BRANCH_SHARE_H_
