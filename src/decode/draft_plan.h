// How a draft model is planned: all of it resident, on the host or on its target's device.
#ifndef OUTRIGGER_SRC_DECODE_DRAFT_PLAN_H_
#define OUTRIGGER_SRC_DECODE_DRAFT_PLAN_H_

#include <outrigger/model.h>
#include <outrigger/plan.h>

#include <cstdint>

namespace outrigger {

/// What a draft is to have caches for.
struct DraftTexts {
  uint32_t context_tokens = 0;  ///< of each, or as many as the draft is made for
  uint32_t count = 1;           ///< at once
};

/// Those of its target's plan.
struct DraftThreads {
  uint32_t host = 1;
  uint32_t device = 0;  ///< 0: it computes on the host
};

/// A plan that decides by bytes alone; its predictions say nothing. Pure. Errors: kBudget; kUnsupported where a device computes nothing of
/// the model; kInvalidArgument.
Result<Plan> plan_draft(const Model& draft, const DraftTexts& texts, const DraftThreads& threads, const Budgets& budgets);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DECODE_DRAFT_PLAN_H_
