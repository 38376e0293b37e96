// What steps allocate. A test that includes this links heap_watch.cc.
#ifndef OUTRIGGER_TESTS_SUPPORT_ALLOCATIONS_H_
#define OUTRIGGER_TESTS_SUPPORT_ALLOCATIONS_H_

#include <outrigger/session.h>

#include <span>

#include "tests/support/catch.h"
#include "tests/support/heap_watch.h"

namespace outrigger::testing {

/// Allocations of the heap, by any thread, while the session takes these tokens one by one. Nothing of the test's own is among them.
inline uint64_t allocations_of_steps(Session& session, std::span<const Token> tokens) {
  const uint64_t before = heap_allocations();
  bool is_ok = true;
  for (const Token token : tokens) is_ok = is_ok && session.step(token).is_ok();
  const uint64_t during = heap_allocations() - before;
  CHECK(is_ok);
  return during;
}

}  // namespace outrigger::testing

#endif  // OUTRIGGER_TESTS_SUPPORT_ALLOCATIONS_H_
