// Rows of the machine and of the thread team: the peaks themselves, a bare read of memory, and the barrier inside a region.
#include <fmt/format.h>

#include <chrono>

#include "tests/bench/micro/bench_case.h"
#include "tests/bench/micro/peaks.h"

namespace outrigger::bench {
namespace {

constexpr int kRepeats = 15;

void add_rate(const std::string& name, std::function<double()> measure) {
  benchmark::RegisterBenchmark(name.c_str(),
                               [measure](benchmark::State& state) {
                                 double sum = 0;
                                 for (auto _ : state) {
                                   const double rate = measure();
                                   sum += rate;
                                   state.SetIterationTime(1 / rate);
                                 }
                                 state.counters["rate"] = sum / kRepeats;
                               })
      ->Iterations(kRepeats)
      ->UseManualTime();
}

double barrier_us(ThreadTeam& team) {
  constexpr int kBarriers = 10000;
  const auto begin = std::chrono::steady_clock::now();
  team.run([](const TeamMember& member) {
    for (int i = 0; i < kBarriers; ++i) member.barrier();
  });
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count() / kBarriers;
}

// The fastest of several: a member that the system takes off its core for a moment costs a thousand barriers.
void add_barrier(size_t threads) {
  benchmark::RegisterBenchmark(fmt::format("barrier/threads:{}", threads).c_str(),
                               [threads](benchmark::State& state) {
                                 double least_us = 1e9;
                                 for (auto _ : state) {
                                   const double us = barrier_us(team_of(threads));
                                   state.SetIterationTime(us * 1e-6);
                                   least_us = std::min(least_us, us);
                                 }
                                 state.counters["us"] = least_us;
                               })
      ->Iterations(20)
      ->UseManualTime()
      ->Unit(benchmark::kMicrosecond);
}

}  // namespace

void add_team_rows() {
  for (const size_t threads : thread_counts()) {
    add_rate(fmt::format("stream_read/threads:{}", threads), [threads] { return stream_peak(team_of(threads))(); });
    for (const SimdLevel level : {SimdLevel::kAvx512, SimdLevel::kAvx2}) {
      for (const Unit unit : {Unit::kInt8, Unit::kBf16, Unit::kFp32}) {
        const PeakLoop loop = peak_loop(unit, level);
        if (loop.run == nullptr) continue;
        add_rate(fmt::format("peak/{}/{}/threads:{}", simd_level_name(level), unit_name(unit), threads),
                 [threads, loop] { return measure_peak(team_of(threads), loop); });
      }
    }
  }
  add_barrier(thread_counts().back());
}

}  // namespace outrigger::bench
