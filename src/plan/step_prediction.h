// Step prediction: what a plan's steps take on a machine, once it is known where everything is.
#ifndef OUTRIGGER_SRC_PLAN_STEP_PREDICTION_H_
#define OUTRIGGER_SRC_PLAN_STEP_PREDICTION_H_

#include <outrigger/plan.h>
#include <outrigger/status.h>
#include <outrigger/step_shape.h>

#include <optional>

#include "src/plan/cost_model.h"
#include "src/plan/step_player.h"

namespace outrigger {

/// What of a plan the cost model asks a workload for, as far as single steps go: the type and the size of its caches.
Workload workload_of(const Plan& plan);
/// Ok, or kInvalidArgument when the plan uses a device of which the profile does not know every rate.
Status check_device_rates(const DeviceUse& device, const MachineProfile& machine);

/// The steps of a plan with its placement. Keeps references to all that it is given.
class StepPredictor {
 public:
  /// Precondition: the plan's tensors and slots are those of `shape`; `device` and `device_load` are the plan's.
  StepPredictor(const StepShape& shape, const Plan& plan, const CostModel& cost, const DeviceUse& device, const DeviceLoad& device_load);

  const StreamLoad& load() const { return load_; }
  /// Cost: that of playing the step (StepPlayer).
  StepPrediction predict(const StepWork& work);

 private:
  const StepShape& shape_;
  const Plan& plan_;
  const CostModel& cost_;
  const DeviceLoad& device_load_;
  const StreamLoad load_;
  std::optional<StepPlayer> player_;  // none where there are too many units to play
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_PLAN_STEP_PREDICTION_H_
