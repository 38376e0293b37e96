// UnitTimes: when something was on its way from the disk.
#ifndef OUTRIGGER_SRC_MEMORY_UNIT_TIMES_H_
#define OUTRIGGER_SRC_MEMORY_UNIT_TIMES_H_

#include <chrono>
#include <cstdint>

namespace outrigger {

/// By the steady clock. Its end is when it was noticed.
struct UnitTimes {
  int64_t requested_ns = 0, arrived_ns = 0;

  static int64_t now_ns() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
  }
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MEMORY_UNIT_TIMES_H_
