// What every microbenchmark shares: memory that no cache holds, teams, and a fraction of a peak that is measured around the work.
#ifndef OUTRIGGER_TESTS_BENCH_MICRO_BENCH_CASE_H_
#define OUTRIGGER_TESTS_BENCH_MICRO_BENCH_CASE_H_

#include <benchmark/benchmark.h>

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "src/base/thread_team.h"
#include "src/tensor/packed.h"

namespace outrigger::bench {

/// A file type that the kernels can run, and the layout it is packed into.
struct WeightKind {
  DType type;
  PackedKind packed;
  const char* name;
};

/// Every type with a layout, so that a new one needs no line here.
const std::vector<WeightKind>& weight_kinds();
/// The kind called `name`; ends the program when there is none.
const WeightKind& weight_kind(const std::string& name);

/// 1 and, where there are more, all usable cores.
const std::vector<size_t>& thread_counts();
/// The team of that many threads. Threads of the teams that are not in use sleep.
ThreadTeam& team_of(size_t threads);

/// Adds a row to those that may run. It is run once; `row` calls report().
void add_row(const std::string& name, std::function<void(benchmark::State&)> row);

/// More than four times the last-level cache, at least 160 MiB, in huge pages; bytes that are finite as numbers of every format.
std::span<std::byte> arena();
/// Fills it with such bytes again.
void reset_arena();
/// Copies of the packed matrix, one after the other over the arena: as many as fit, or `most`.
struct ColdMatrix {
  const std::byte* first;
  uint64_t bytes;  ///< of one copy
  size_t copies;
};
ColdMatrix fill_arena(const WeightKind& kind, size_t rows, size_t columns, size_t most, ThreadTeam& team);

/// What a row measures, in rounds: the peak, some runs of the work, the peak, ... and for each round the work's rate as a fraction of the
/// mean of the peaks before and after it.
struct Measured {
  double amount;                 ///< operations or bytes of one run
  std::function<void()> work;    ///< one run
  std::function<double()> peak;  ///< one measurement, in the same unit a second
};

/// Runs the rounds and sets the row's time (of one run) and counters: `rate` and `peak`, in amounts a second, and `fraction`; each the
/// median of the rounds.
void report(benchmark::State& state, const Measured& measured);

/// Bytes a second that the team reads of the arena.
std::function<double()> stream_peak(ThreadTeam& team);

// Each file's rows.
void add_matmul_rows();
void add_attention_rows();
void add_team_rows();

}  // namespace outrigger::bench

#endif  // OUTRIGGER_TESTS_BENCH_MICRO_BENCH_CASE_H_
