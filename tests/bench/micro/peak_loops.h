// Register-only loops and bare reads, one file per instruction level. For files compiled for a level: includes nothing with inline code.
#ifndef OUTRIGGER_TESTS_BENCH_MICRO_PEAK_LOOPS_H_
#define OUTRIGGER_TESTS_BENCH_MICRO_PEAK_LOOPS_H_

#include <cstddef>
#include <cstdint>

namespace outrigger::bench {

/// A loop that keeps its values in registers, with enough independent sums to hide each instruction's latency.
struct PeakLoop {
  double ops_per_turn;    ///< a multiplication and an addition are two
  int (*run)(int turns);  ///< the result depends on every turn
};

PeakLoop int8_loop_avx2();    ///< vpmaddubsw and vpaddw: as many as may be summed in 16 bits before they must be widened
PeakLoop fp32_loop_avx2();    ///< vfmadd
PeakLoop int8_loop_avx512();  ///< vpdpbusd
PeakLoop fp32_loop_avx512();  ///< vfmadd
PeakLoop bf16_loop_avx512();  ///< vdpbf16ps

uint64_t read_avx2(const std::byte* data, size_t bytes);    ///< bytes: a multiple of 512; data aligned to 64
uint64_t read_avx512(const std::byte* data, size_t bytes);  ///< the same

}  // namespace outrigger::bench

#endif  // OUTRIGGER_TESTS_BENCH_MICRO_PEAK_LOOPS_H_
