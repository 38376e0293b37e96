// The three drawings of a plan: a step's lanes over time, memory against the budget, and what of each layer is resident.
#ifndef OUTRIGGER_SRC_PLAN_PLAN_DRAWINGS_H_
#define OUTRIGGER_SRC_PLAN_PLAN_DRAWINGS_H_

#include <outrigger/machine_profile.h>
#include <outrigger/plan.h>
#include <outrigger/step_shape.h>

#include <vector>

#include "src/page/canvas.h"
#include "src/plan/schedule.h"

namespace outrigger {

/// `predicted_ms` is what the plan promises of the step, told beside the time that it takes when it is played.
Drawing draw_step(const StepShape& shape, const Plan& plan, const StepSchedule& schedule, const std::string& what, double predicted_ms);
Drawing draw_memory(const Plan& plan);
Drawing draw_layers(const StepShape& shape, const Plan& plan);

/// All of them in the order in which they are read; a step is drawn for decoding, and for the prompt if there is one.
/// Errors: those of schedule_step.
Result<std::vector<Drawing>> draw_plan(const Plan& plan, const StepShape& shape, const MachineProfile& machine);

/// One or two decimals, in the unit that suits `of`: "57.1 ms", "850 us".
std::string duration_text(double seconds);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_PLAN_PLAN_DRAWINGS_H_
