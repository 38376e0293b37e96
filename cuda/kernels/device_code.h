// What a kernel may use of the machine that it runs on. One source serves two compilers: nvcc, and the host's, for which
// tests/cuda/emulator runs a block's threads. Every kernel is written with these words alone.
#ifndef OUTRIGGER_CUDA_KERNELS_DEVICE_CODE_H_
#define OUTRIGGER_CUDA_KERNELS_DEVICE_CODE_H_

#include <cmath>
#include <cstddef>
#include <cstdint>

namespace outrigger::cuda {

/// Threads that run in step and exchange registers.
inline constexpr uint32_t kWarp = 32;

struct alignas(8) U2 {
  uint32_t x, y;
};
struct alignas(16) U4 {
  uint32_t x, y, z, w;
};

}  // namespace outrigger::cuda

#if defined(__CUDACC__)
#include "cuda/kernels/device_code_nvcc.h"
#else
#include "cuda/kernels/device_code_host.h"
#endif

#endif  // OUTRIGGER_CUDA_KERNELS_DEVICE_CODE_H_
