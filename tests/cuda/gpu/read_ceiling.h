// How fast a card's memory can be read at all: what other kernels are measured against.
#ifndef OUTRIGGER_TESTS_CUDA_GPU_READ_CEILING_H_
#define OUTRIGGER_TESTS_CUDA_GPU_READ_CEILING_H_

#include "cuda/kernels/launch.h"

namespace outrigger::cuda {

/// Reads `bytes` bytes, a multiple of 16, at `src` in 16-byte loads, and writes a word for each thread that finds an unlikely sum.
CudaCode launch_read(const Launcher& launcher, const std::byte* src, uint64_t bytes, uint32_t* unlikely);

}  // namespace outrigger::cuda

#endif  // OUTRIGGER_TESTS_CUDA_GPU_READ_CEILING_H_
