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

namespace outrigger {

/// In the order in which they are drawn, from the source of bytes to what computes with them.
enum class ScheduleLane : uint8_t { kDisk = 0, kHost = 1 };
inline constexpr size_t kScheduleLanes = 2;
const char* schedule_lane_name(ScheduleLane lane);

enum class TaskKind : uint8_t {
  kRowReads,   ///< host: rows of an embedding that is not resident
  kProduct,    ///< host: what is in memory of one window's matrices
  kAttention,  ///< host
  kHead,       ///< host: a product of the output head
  kFetch,      ///< disk: reads and repacks one unit
};

inline constexpr uint32_t kNoUnit = UINT32_MAX;

struct ScheduledTask {
  ScheduleLane lane = ScheduleLane::kHost;
  TaskKind kind = TaskKind::kProduct;
  double begin_s = 0, end_s = 0;
  uint64_t bytes = 0;                           ///< a product's packed weights; a fetch's, of the file
  uint32_t layer = 0;
  uint32_t first_matrix = 0, last_matrix = 0;   ///< of products and fetches
  uint32_t unit = kNoUnit;                      ///< the one that a product needs or a fetch brings
  uint32_t slot = 0;                            ///< where that unit is, if there is one
};

/// What a tier holds from a moment on. Weights, caches and activations are there all the time; slots, staging and row buffer only while
/// something is in them.
struct MemoryMoment {
  double time_s = 0;
  uint32_t filled_slots = 0;  ///< with a unit that is still wanted, or on its way
  TierBreakdown host;
};

struct StepSchedule {
  StepWork work;
  std::vector<ScheduledTask> tasks;    ///< a lane's in order of time
  std::vector<MemoryMoment> memory;    ///< ascending in time, the first at 0
  std::array<double, kScheduleLanes> busy_s{};
  double total_s = 0;
  uint32_t units = 0, ring_slots = 0;  ///< units this step cycles through, and the slots it can use

  /// The lane that was busy longest.
  ScheduleLane binding_lane() const;
};

/// "blk.3 attn_q, attn_k, attn_v", "attention, layer 3", "fetch unit 17: blk.3 ffn_up".
std::string task_label(const StepShape& shape, const ScheduledTask& task);

/// Plays a step as the engine runs it (src/model/step_graph.h): the host's products in order, each window cut where a new unit begins; unit j
/// fetched for the first `ring_slots` of them one step ahead, so that the j-th fetch brings unit (j + ring_slots) mod units into the slot of unit
/// j once that was used. Each lane does one thing at a time, as soon as it can; durations are the cost model's.
/// Pure. Cost: linear in units and matrices; 60 us for 200 units.
/// Errors: kInvalidArgument when the plan is not one for `shape` (check_plan) or the profile is none; kUnsupported for more than 2^22 units.
Result<StepSchedule> schedule_step(const StepShape& shape, const Plan& plan, const MachineProfile& machine, const StepWork& work);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_PLAN_SCHEDULE_H_
