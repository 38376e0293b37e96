// generate_batch(): what is checked before, and the sessions that the texts are written in.
#include <outrigger/batch.h>

#include <algorithm>
#include <new>
#include <utility>

#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/decode/batch_run.h"

namespace outrigger {

Status BatchOptions::validate() const {
  if (follow_load) OTR_TRY(follow_load->validate());
  if (groups > 2) return Status(StatusCode::kInvalidArgument, formatted("groups: got {}, need 1 or 2, or 0 as it pays", groups));
  if (branch_share == SessionOptions::kAsPlanned || (branch_share >= 0 && branch_share <= 1)) return {};
  return Status(StatusCode::kInvalidArgument,
                formatted("branch_share: got {}, need 0 to 1, or {} as planned", branch_share, SessionOptions::kAsPlanned));
}

Result<BatchResult> generate_batch(const Engine& engine, std::span<const BatchRequest> requests, const BatchOptions& options) try {
  OTR_TRY(options.validate());
  const Plan& plan = engine.plan();
  if (options.sequences > plan.batch) {
    return Status(StatusCode::kInvalidArgument, formatted("sequences: got {}, need at most the plan's batch of {}; plan for a larger batch",
                                                          options.sequences, plan.batch));
  }
  const size_t sequences = std::min<size_t>(options.sequences == 0 ? plan.batch : options.sequences, requests.size());
  if (sequences == 0) return BatchResult();
  const float share = options.branch_share == SessionOptions::kAsPlanned ? plan.branch_share : options.branch_share;
  BatchRun run(*engine.impl(), requests, options, share, sequences);
  for (size_t i = 0; i < sequences; ++i) {
    OTR_ASSIGN(Session session, Session::open(engine, {options.context_tokens, share}));
    run.add_place(std::move(session));
  }
  return run.run();
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

}  // namespace outrigger
