// A kernel that only reads.
#include "cuda/kernels/device_code.h"
#include "tests/cuda/gpu/read_ceiling.h"

namespace outrigger::cuda {
namespace {

constexpr uint32_t kThreads = 512, kLoads = 8;

OTR_KERNEL_OF(kThreads) void read_kernel(const U4* src, uint64_t count, uint32_t* unlikely) {
  uint32_t sum = 0;
  const uint64_t step = uint64_t{grid_x()} * kThreads * kLoads;
  for (uint64_t first = uint64_t{block_x()} * kThreads * kLoads + thread_index(); first < count; first += step) {
    U4 loaded[kLoads] = {};
    OTR_UNROLL
    for (uint32_t i = 0; i < kLoads; ++i) {
      if (first + i * kThreads < count) loaded[i] = load_once(src + first + i * kThreads);
    }
    OTR_UNROLL
    for (uint32_t i = 0; i < kLoads; ++i) sum ^= loaded[i].x ^ loaded[i].y ^ loaded[i].z ^ loaded[i].w;
  }
  if (sum == 0x12345678) *unlikely = sum;
}

}  // namespace

CudaCode launch_read(const Launcher& launcher, const std::byte* src, uint64_t bytes, uint32_t* unlikely) {
  return launch(launcher, read_kernel, {{launcher.multiprocessors * 4}, kThreads}, reinterpret_cast<const U4*>(src), bytes / sizeof(U4),
                unlikely);
}

}  // namespace outrigger::cuda
