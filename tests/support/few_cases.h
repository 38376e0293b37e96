// How much of a sweep is tried where every case takes ten times as long.
#ifndef OUTRIGGER_TESTS_SUPPORT_FEW_CASES_H_
#define OUTRIGGER_TESTS_SUPPORT_FEW_CASES_H_

#include <cstdint>

namespace outrigger {

/// Whether a sanitizer watches. It looks at memory and threads, which the first cases of a sweep use as the rest do; numbers are for the
/// optimised build to check.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kIsSanitized = true;
#else
inline constexpr bool kIsSanitized = false;
#endif

/// Of so many random cases: with a sanitizer an eighth.
constexpr uint64_t seeds(uint64_t all) { return kIsSanitized ? all / 8 : all; }

}  // namespace outrigger

#endif  // OUTRIGGER_TESTS_SUPPORT_FEW_CASES_H_
