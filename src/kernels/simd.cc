// The instruction level in use.
#include "src/kernels/simd.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <string_view>

namespace outrigger {
namespace {

SimdLevel supported_level() {
  // The compiler's look at the processor includes the operating system's: without its saving the wide registers these say no.
#if defined(OTR_KERNELS_AVX512)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni")) {
    return SimdLevel::kAvx512;
  }
#endif
#if defined(OTR_KERNELS_AVX2)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")) return SimdLevel::kAvx2;
#endif
  return SimdLevel::kNone;
}

SimdLevel first_level() {
  const char* text = std::getenv("OUTRIGGER_SIMD");
  const std::string_view most = text ? text : "";
  for (SimdLevel level : {SimdLevel::kNone, SimdLevel::kAvx2}) {
    if (most == simd_level_name(level)) return std::min(level, best_simd_level());
  }
  return best_simd_level();
}

std::atomic<SimdLevel>& level_in_use() {
  static std::atomic<SimdLevel> level{first_level()};
  return level;
}

}  // namespace

SimdLevel best_simd_level() {
  static const SimdLevel level = supported_level();
  return level;
}

bool has_bf16_dot() {
#if defined(OTR_KERNELS_AVX512)
  static const bool has = best_simd_level() == SimdLevel::kAvx512 && __builtin_cpu_supports("avx512bf16");
  return has;
#else
  return false;
#endif
}

SimdLevel simd_level() { return level_in_use().load(std::memory_order_relaxed); }

void limit_simd_level(SimdLevel most) { level_in_use().store(std::min(most, best_simd_level()), std::memory_order_relaxed); }

const char* simd_level_name(SimdLevel level) {
  switch (level) {
    case SimdLevel::kNone:
      return "none";
    case SimdLevel::kAvx2:
      return "avx2";
    case SimdLevel::kAvx512:
      return "avx512";
  }
  return "unknown";
}

}  // namespace outrigger
