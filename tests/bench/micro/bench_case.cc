// Arena, teams, and the rounds of work between two peaks.
#include "tests/bench/micro/bench_case.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>

#include "src/device/cpu_backend.h"
#include "tests/bench/micro/peaks.h"

namespace outrigger::bench {
namespace {

double seconds_now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// A benchmark that cannot be set up has nobody to hand an error to.
template <typename T>
T must(Result<T> result) {
  if (result.is_ok()) return std::move(result).value();
  std::fprintf(stderr, "microbench: %s\n", result.status().message().c_str());
  std::exit(1);
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<long>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

// Finite and of moderate size as float16, bfloat16, float32 and as scales of every block format, and not all alike.
void fill_with_numbers(std::byte* data, uint64_t bytes) {
  uint32_t state = 1;
  for (uint64_t i = 0; i < bytes; ++i) {
    state = state * 1664525 + 1013904223;
    data[i] = static_cast<std::byte>((state >> 24 & 0x2e) | 0x11);
  }
}

uint64_t arena_bytes() {
  constexpr uint64_t kLeast = 160 << 20, kMost = 1 << 30;
  const long cache_bytes = sysconf(_SC_LEVEL3_CACHE_SIZE);
  return std::clamp<uint64_t>(cache_bytes > 0 ? 4 * static_cast<uint64_t>(cache_bytes) + (32 << 20) : kLeast, kLeast, kMost);
}

}  // namespace

const std::vector<WeightKind>& weight_kinds() {
  static const std::vector<WeightKind> kinds = [] {
    std::vector<WeightKind> all;
    for (const DTypeTraits& traits : all_dtypes()) {
      if (const auto packed = packed_kind(traits.type)) all.push_back({traits.type, *packed, traits.name});
    }
    return all;
  }();
  return kinds;
}

const WeightKind& weight_kind(const std::string& name) {
  for (const WeightKind& kind : weight_kinds()) {
    if (kind.name == name) return kind;
  }
  std::fprintf(stderr, "microbench: no weights of type %s\n", name.c_str());
  std::exit(1);
}

const std::vector<size_t>& thread_counts() {
  static const std::vector<size_t> counts = usable_cores() > 1 ? std::vector<size_t>{1, usable_cores()} : std::vector<size_t>{1};
  return counts;
}

ThreadTeam& team_of(size_t threads) {
  static std::map<size_t, std::unique_ptr<ThreadTeam>> teams;
  std::unique_ptr<ThreadTeam>& team = teams[threads];
  if (!team) team = must(ThreadTeam::create(threads));
  return *team;
}

void add_row(const std::string& name, std::function<void(benchmark::State&)> row) {
  // Iterations are report()'s: it knows how long is long enough beside the peak.
  benchmark::RegisterBenchmark(name.c_str(), std::move(row))->Iterations(1)->UseManualTime()->Unit(benchmark::kMicrosecond);
}

std::span<std::byte> arena() {
  static const std::unique_ptr<Backend> backend = make_cpu_backend();
  // Written before it is read: pages that nobody wrote are all the same page of zeros, which a cache holds.
  static const DeviceMemory memory = [] {
    DeviceMemory fresh = must(backend->allocate(arena_bytes()));
    fill_with_numbers(fresh.data(), fresh.bytes());
    return fresh;
  }();
  return {memory.data(), memory.bytes()};
}

void reset_arena() { fill_with_numbers(arena().data(), arena().size()); }

ColdMatrix fill_arena(const WeightKind& kind, size_t rows, size_t columns, size_t most, ThreadTeam& team) {
  // One row block of numbers serves all rows: a kernel's time does not depend on the weights' values.
  const uint64_t block_bytes = packed_block_bytes(kind.packed, columns);
  std::vector<std::byte> file(kPackRows * row_bytes(kind.type, columns).value()), block(block_bytes);
  fill_with_numbers(file.data(), file.size());
  pack_rows(kind.type, file.data(), kPackRows, columns, block.data());

  const uint64_t matrix_bytes = packed_bytes(kind.packed, rows, columns);
  const size_t copies = std::clamp<size_t>(arena().size() / matrix_bytes, 1, most);
  team.run([&](const TeamMember& member) {
    size_t begin, end;
    member.share(std::min<size_t>(copies * matrix_bytes, arena().size()) / block_bytes, 1, &begin, &end);
    for (size_t b = begin; b < end; ++b) std::memcpy(arena().data() + b * block_bytes, block.data(), block_bytes);
  });
  return {arena().data(), matrix_bytes, copies};
}

void report(benchmark::State& state, const Measured& measured) {
  constexpr int kRounds = 5;
  constexpr double kRoundSeconds = 20e-3;
  std::vector<double> fractions, rates, peaks, seconds;
  for (auto _ : state) {
    measured.work();  // warm up: instructions, and what is not meant to be cold
    double before = measured.peak();
    for (int round = 0; round < kRounds; ++round) {
      int runs = 0;
      const double begin = seconds_now();
      double end = begin;
      while (end - begin < kRoundSeconds) {
        measured.work();
        ++runs;
        end = seconds_now();
      }
      const double after = measured.peak(), peak = (before + after) / 2, rate = measured.amount * runs / (end - begin);
      fractions.push_back(rate / peak), rates.push_back(rate), peaks.push_back(peak), seconds.push_back((end - begin) / runs);
      before = after;
    }
    state.SetIterationTime(median(seconds));
  }
  state.counters["fraction"] = median(fractions);
  state.counters["rate"] = median(rates);
  state.counters["peak"] = median(peaks);
}

std::function<double()> stream_peak(ThreadTeam& team) {
  return [&team] { return measure_stream(team, arena().data(), arena().size()); };
}

}  // namespace outrigger::bench
