// A step of a plan, played, or a failed test with the reason.
#ifndef OUTRIGGER_TESTS_PLAN_SCHEDULED_H_
#define OUTRIGGER_TESTS_PLAN_SCHEDULED_H_

#include <utility>

#include "src/plan/schedule.h"
#include "tests/support/catch.h"

namespace outrigger {

inline StepSchedule scheduled(const StepShape& shape, const Plan& plan, const MachineProfile& machine, const StepWork& work) {
  Result<StepSchedule> schedule = schedule_step(shape, plan, machine, work);
  INFO(schedule.status().to_string());
  REQUIRE(schedule.is_ok());
  return std::move(schedule).value();
}

}  // namespace outrigger

#endif  // OUTRIGGER_TESTS_PLAN_SCHEDULED_H_
