// LargeAllocations: watches the C heap, on which the C++ heap and libraries of their own ways stand, for what is larger than it should be.
#ifndef OUTRIGGER_TESTS_SUPPORT_LARGE_ALLOCATIONS_H_
#define OUTRIGGER_TESTS_SUPPORT_LARGE_ALLOCATIONS_H_

#include <cstdint>

namespace outrigger::testing {

/// The largest piece that any thread asked the heap for since restart_largest_allocation(). 0 where a sanitizer has the heap.
uint64_t largest_allocation();
void restart_largest_allocation();

}  // namespace outrigger::testing

#endif  // OUTRIGGER_TESTS_SUPPORT_LARGE_ALLOCATIONS_H_
