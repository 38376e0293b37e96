// Schedule: one step of a plan, played: which lane does what when, and what is in memory meanwhile.
#ifndef OUTRIGGER_SRC_PLAN_SCHEDULE_H_
#define OUTRIGGER_SRC_PLAN_SCHEDULE_H_

#include <outrigger/machine_profile.h>
#include <outrigger/plan.h>
#include <outrigger/status.h>
#include <outrigger/step_shape.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "src/plan/cost_model.h"
#include "src/plan/step_player.h"

namespace outrigger {

const char* schedule_lane_name(ScheduleLane lane);

/// What a tier holds from a moment on. Weights, caches and activations are there all the time; slots, staging and row buffer only while
/// something is in them.
struct MemoryMoment {
  double time_s = 0;
  uint32_t filled_slots = 0;  ///< with a unit that is still wanted, or on its way
  uint32_t filled_device_slots = 0;
  TierBreakdown host, device;
};

struct StepSchedule {
  StepWork work;
  std::vector<ScheduledTask> tasks;    ///< a lane's in order of time
  std::vector<MemoryMoment> memory;    ///< ascending in time, the first at 0
  std::array<double, kScheduleLanes> busy_s{};
  double total_s = 0;
  uint32_t units = 0, ring_slots = 0;  ///< units this step cycles through, and the slots it can use
  uint32_t device_units = 0, device_ring_slots = 0;  ///< the same of the device's ring; its slots are there in smaller steps too

  /// The lane that was busy longest.
  ScheduleLane binding_lane() const;
};

/// "blk.3 attn_q, attn_k, attn_v", "attention, layer 3", "fetch unit 17: blk.3 ffn_up".
std::string task_label(const StepShape& shape, const ScheduledTask& task);

/// Plays one step of a plan (StepPlayer). Pure. Cost: linear in units and matrices; some 20 us for 200 of each.
/// Errors: kInvalidArgument when the plan is not one for `shape` (check_plan) or the profile is none; kUnsupported for more than 2^22
/// units.
Result<StepSchedule> schedule_step(const StepShape& shape, const Plan& plan, const MachineProfile& machine, const StepWork& work);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_PLAN_SCHEDULE_H_
