// The choice among the peak loops, and their timing on a team.
#include "tests/bench/micro/peaks.h"

#include <chrono>
#include <numeric>
#include <vector>

namespace outrigger::bench {
namespace {

double seconds_now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

bool has_bf16() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

uint64_t read_plain(const std::byte* data, size_t bytes) {
  const auto* const words = reinterpret_cast<const uint64_t*>(data);
  return std::accumulate(words, words + bytes / 8, uint64_t{0});
}

auto reader() {
#if defined(__x86_64__)
  if (best_simd_level() == SimdLevel::kAvx512) return read_avx512;
  if (best_simd_level() == SimdLevel::kAvx2) return read_avx2;
#endif
  return read_plain;
}

}  // namespace

const char* unit_name(Unit unit) {
  switch (unit) {
    case Unit::kInt8:
      return "int8";
    case Unit::kBf16:
      return "bf16";
    case Unit::kFp32:
      break;
  }
  return "fp32";
}

PeakLoop peak_loop(Unit unit, SimdLevel level) {
#if defined(__x86_64__)
  if (level > best_simd_level()) return {};
  if (level == SimdLevel::kAvx2 && unit != Unit::kBf16) return unit == Unit::kInt8 ? int8_loop_avx2() : fp32_loop_avx2();
  if (level == SimdLevel::kAvx512) {
    if (unit == Unit::kBf16) return has_bf16() ? bf16_loop_avx512() : PeakLoop{};
    return unit == Unit::kInt8 ? int8_loop_avx512() : fp32_loop_avx512();
  }
#endif
  static_cast<void>(unit), static_cast<void>(level);
  return {};
}

double measure_peak(ThreadTeam& team, const PeakLoop& loop) {
  constexpr double kSeconds = 2e-3;
  // Parts of some 50 us: a member stops soon after the time is over, and counts what it did.
  const int turns = static_cast<int>(4e7 / loop.ops_per_turn) + 1;
  std::vector<double> rates(team.threads());
  team.run([&](const TeamMember& member) {
    member.barrier();
    const double begin = seconds_now();
    double end = begin, done = 0;
    int kept = 0;
    while (end - begin < kSeconds) {
      kept += loop.run(turns);
      done += loop.ops_per_turn * turns;
      end = seconds_now();
    }
    rates[member.index()] = kept == INT32_MIN ? 0 : done / (end - begin);
  });
  return std::accumulate(rates.begin(), rates.end(), 0.0);
}

double measure_stream(ThreadTeam& team, const std::byte* data, size_t bytes) {
  constexpr size_t kGranule = 4096;
  static const auto read = reader();
  std::vector<uint64_t> sums(team.threads());
  const double begin = seconds_now();
  team.run([&](const TeamMember& member) {
    size_t first, last;
    member.share(bytes / kGranule, 1, &first, &last);
    sums[member.index()] = read(data + first * kGranule, (last - first) * kGranule);
  });
  const double seconds = seconds_now() - begin;
  // The sums are used, so the reading cannot be left out.
  return static_cast<double>(bytes / kGranule * kGranule) / (seconds + (sums[0] == 1 ? 1e-12 : 0));
}

}  // namespace outrigger::bench
