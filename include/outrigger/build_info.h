// BuildInfo: what this build of the library is, and what of it this machine uses.
#ifndef OUTRIGGER_BUILD_INFO_H_
#define OUTRIGGER_BUILD_INFO_H_

#include <outrigger/export.h>

#include <cstdint>
#include <string>
#include <vector>

namespace outrigger {

struct BuildInfo {
  std::string version;                  ///< "0.1.0", of the library and not of the headers
  int32_t c_abi = 0;                    ///< version of the C ABI; libraries with equal ones can replace each other
  std::string compiler;                 ///< "GCC 12.2.0"
  std::vector<std::string> simd_built;  ///< levels with kernels in this build, slowest first: "none", "avx2", "avx512"
  std::string simd_in_use;              ///< the one that runs on this processor; the environment variable OUTRIGGER_SIMD may lower it
  bool cuda = false;                    ///< whether the CUDA backend, liboutrigger_cuda.so, was built too
  uint32_t usable_cores = 0;            ///< physical cores this process may use: the default number of threads
};

/// Threads: any. Cost: microseconds after the first call.
OTR_API BuildInfo build_info();

}  // namespace outrigger

#endif  // OUTRIGGER_BUILD_INFO_H_
