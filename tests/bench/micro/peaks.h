// What this processor can do at most: register-only loops and a bare read of memory, for kernels to be compared with.
#ifndef OUTRIGGER_TESTS_BENCH_MICRO_PEAKS_H_
#define OUTRIGGER_TESTS_BENCH_MICRO_PEAKS_H_

#include <cstddef>
#include <cstdint>

#include "src/base/thread_team.h"
#include "src/kernels/simd.h"
#include "tests/bench/micro/peak_loops.h"

namespace outrigger::bench {

/// What a kernel is a fraction of.
enum class Unit : uint8_t {
  kInt8,  ///< multiplications and additions of 8-bit integers, summed in 32 bits (AVX2: in 16)
  kBf16,  ///< of bfloat16 pairs, summed in float32
  kFp32,  ///< of float32
};

/// "int8", "bf16" or "fp32".
const char* unit_name(Unit unit);

/// The loop of a unit at a level; run is null where the level or this processor has no such instruction.
PeakLoop peak_loop(Unit unit, SimdLevel level);

/// Operations a second of all members of the team together, over about 2 ms. Precondition: loop.run is not null.
double measure_peak(ThreadTeam& team, const PeakLoop& loop);

/// Bytes a second that the team reads, each member one contiguous share. Costs one pass over the bytes.
double measure_stream(ThreadTeam& team, const std::byte* data, size_t bytes);

}  // namespace outrigger::bench

#endif  // OUTRIGGER_TESTS_BENCH_MICRO_PEAKS_H_
