// The least memory that leaves steps room for some tokens of a draft, so that as much as can be comes from disk.
#ifndef OUTRIGGER_TESTS_SUPPORT_STREAMING_SETUP_H_
#define OUTRIGGER_TESTS_SUPPORT_STREAMING_SETUP_H_

#include "tests/support/engines.h"

namespace outrigger::testing {

/// At the least budget itself steps have one token; the budget grows by pages till they have `tokens`.
inline EngineSetup streaming_setup(const Model& model, EngineSetup setup = {}, uint32_t tokens = 8) {
  constexpr uint64_t kPageBytes = 4096;
  setup.host_bytes = smallest_budget(model, setup);
  while (must(plan_for(model, setup)).logit_rows < tokens) setup.host_bytes += kPageBytes;
  return setup;
}

}  // namespace outrigger::testing

#endif  // OUTRIGGER_TESTS_SUPPORT_STREAMING_SETUP_H_
