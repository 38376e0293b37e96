// PlanRecord: a plan and what it was made by, as bytes of a fixed number.
#ifndef OUTRIGGER_SRC_COMPRESS_PLAN_RECORD_H_
#define OUTRIGGER_SRC_COMPRESS_PLAN_RECORD_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "src/compress/matrix_plan.h"

namespace outrigger {

uint64_t plan_record_bytes(const ModelLayout& layout);
/// Preconditions: the plan is of the layout, and its curve has at most kCurvePoints. Throws std::bad_alloc.
std::vector<std::byte> write_plan(const ModelPlan& plan, const ModelLayout& layout);
/// None where it is no record, or of a plan that no matrix of the layout could have. Throws std::bad_alloc.
std::optional<ModelPlan> read_plan(std::span<const std::byte> record, const ModelLayout& layout);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_COMPRESS_PLAN_RECORD_H_
