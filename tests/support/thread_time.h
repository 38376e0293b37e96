// What a piece of work takes of a processor: bounds on it hold on a machine that others use too.
#ifndef OUTRIGGER_TESTS_SUPPORT_THREAD_TIME_H_
#define OUTRIGGER_TESTS_SUPPORT_THREAD_TIME_H_

#include <time.h>

#include <algorithm>
#include <limits>

#include "tests/support/few_cases.h"

namespace outrigger {

/// Time this thread has run, in milliseconds; waiting does not count.
inline double thread_ms() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) / 1e6;
}

/// The least of so many runs of `work`, in milliseconds of this thread.
template <typename Work>
double best_thread_ms(int runs, const Work& work) {
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < runs; ++i) {
    const double start = thread_ms();
    work();
    best = std::min(best, thread_ms() - start);
  }
  return best;
}

/// Nobody notices a wait of so long. What is held to it takes 10 to 100 ms here: a slow machine stays below, a step too many through all
/// matrices does not.
#ifdef NDEBUG
inline constexpr double kMomentMs = kIsSanitized ? 30000 : 300;
#else
inline constexpr double kMomentMs = 30000;
#endif

}  // namespace outrigger

#endif  // OUTRIGGER_TESTS_SUPPORT_THREAD_TIME_H_
