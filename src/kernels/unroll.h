// A loop that the compiler sees unrolled from the start.
#ifndef OUTRIGGER_SRC_KERNELS_UNROLL_H_
#define OUTRIGGER_SRC_KERNELS_UNROLL_H_

#include <utility>

namespace outrigger {

/// Calls body(std::integral_constant<int, 0>()), ..., body(std::integral_constant<int, kCount - 1>()). Arrays that are indexed only so
/// become registers: a loop that is unrolled later, with or without a pragma, leaves them in memory with gcc 12, at half the speed.
template <int kCount, typename Body>
__attribute__((always_inline)) inline void unrolled(Body body) {
  [&]<int... kIndices>(std::integer_sequence<int, kIndices...>) __attribute__((always_inline)) {
    (body(std::integral_constant<int, kIndices>()), ...);
  }
  (std::make_integer_sequence<int, kCount>());
}

}  // namespace outrigger

/// OTR_UNROLLED(4, i, { sums[i] = 0; }); sees everything around it. A macro, since the attribute belongs to each such lambda.
#define OTR_UNROLLED(count, index, ...) ::outrigger::unrolled<count>([&](auto index) __attribute__((always_inline)) __VA_ARGS__)

#endif  // OUTRIGGER_SRC_KERNELS_UNROLL_H_
