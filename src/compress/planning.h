// Planning: what compressing is to make of each matrix, from what the options ask for.
#ifndef OUTRIGGER_SRC_COMPRESS_PLANNING_H_
#define OUTRIGGER_SRC_COMPRESS_PLANNING_H_

#include <outrigger/compress.h>

#include <functional>
#include <span>
#include <vector>

#include "src/compress/compress_need.h"
#include "src/compress/matrix_plan.h"
#include "src/compress/saved_work.h"
#include "src/model/model_impl.h"

namespace outrigger {

/// Of a weight's code, where mixed ones are measured from.
int base_bits(const CompressOptions& options);

/// Of the backbone's formats.
OwnForm form_of(const CompressOptions& options);

/// Whether the plan depends on measurements.
bool needs_survey(const CompressOptions& options);

/// What finding the plan holds in memory, at most; nothing where it takes no survey. Preconditions as plan_matrices()'s.
CompressNeed need_of_planning(const Model::Impl& model, std::span<const Token> tokens, const CompressOptions& options);

/// `saved`: null, or where plans that were found are kept, and windows of the survey meanwhile. `watch` hears the share of the survey that
/// is done, where there is one. Preconditions as compress_model() checks them. Errors: kInvalidArgument for a budget that buys no branch,
/// with the least that does; those of survey_model().
Result<ModelPlan> plan_matrices(const Model::Impl& model, std::span<const Token> tokens, const CompressOptions& options, SavedWork* saved,
                                const std::function<Status(double share)>& watch);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_COMPRESS_PLANNING_H_
