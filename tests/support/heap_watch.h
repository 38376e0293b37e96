// HeapWatch: counts the C++ heap's allocations and bytes, and makes the n-th one fail. For tests of "allocates nothing" and of running out.
#ifndef OUTRIGGER_TESTS_SUPPORT_HEAP_WATCH_H_
#define OUTRIGGER_TESTS_SUPPORT_HEAP_WATCH_H_

#include <cstdint>

namespace outrigger {

/// Calls of operator new since the program began, by all threads.
uint64_t heap_allocations();

/// Bytes in use now, and the most at any time since `restart_heap_peak`, as the allocator rounds them.
uint64_t heap_bytes();
uint64_t heap_peak_bytes();
void restart_heap_peak();

/// While it lives, the `nth` allocation from now on (1 is the next), and only that, throws std::bad_alloc or returns null. One at a time.
class FailingAllocation {
 public:
  explicit FailingAllocation(uint64_t nth);
  ~FailingAllocation();
  FailingAllocation(const FailingAllocation&) = delete;
  FailingAllocation& operator=(const FailingAllocation&) = delete;
  bool has_happened() const;
};

}  // namespace outrigger

#endif  // OUTRIGGER_TESTS_SUPPORT_HEAP_WATCH_H_
