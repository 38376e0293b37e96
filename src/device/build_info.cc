// What this build is.
#include <outrigger/build_info.h>
#include <outrigger/outrigger.h>
#include <outrigger/version.h>

#include "src/base/formatted.h"
#include "src/base/thread_team.h"
#include "src/kernels/simd.h"

namespace outrigger {
namespace {

std::string compiler_name() {
#if defined(__clang__)
  return formatted("Clang {}.{}.{}", __clang_major__, __clang_minor__, __clang_patchlevel__);
#elif defined(__GNUC__)
  return formatted("GCC {}.{}.{}", __GNUC__, __GNUC_MINOR__, __GNUC_PATCHLEVEL__);
#else
  return "unknown";
#endif
}

std::vector<std::string> built_levels() {
  std::vector<std::string> names = {simd_level_name(SimdLevel::kNone)};
#if defined(OTR_KERNELS_AVX2)
  names.emplace_back(simd_level_name(SimdLevel::kAvx2));
#endif
#if defined(OTR_KERNELS_AVX512)
  names.emplace_back(simd_level_name(SimdLevel::kAvx512));
#endif
  return names;
}

}  // namespace

BuildInfo build_info() {
  BuildInfo info;
  info.version = OUTRIGGER_VERSION_STRING;
  info.c_abi = OTR_ABI_VERSION;
  info.compiler = compiler_name();
  info.simd_built = built_levels();
  info.simd_in_use = simd_level_name(simd_level());
#if defined(OTR_CUDA_IS_BUILT)
  info.cuda = true;
#endif
  info.usable_cores = static_cast<uint32_t>(usable_cores());
  return info;
}

}  // namespace outrigger
