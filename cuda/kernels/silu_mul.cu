// SwiGLU's middle: an element a thread.
#include "cuda/kernels/device_code.h"
#include "cuda/kernels/exp.h"
#include "cuda/kernels/ops.h"

namespace outrigger::cuda {
namespace {

constexpr uint32_t kThreads = 256;

OTR_KERNEL_OF(kThreads) void silu_mul_kernel(SiluMulArgs args) {
  const size_t i = size_t{block_x()} * kThreads + thread_index();
  if (i >= args.count) return;
  const float gate = args.gate[i];
  args.dst[i] = gate / (1 + exp_of(-gate)) * args.up[i];
}

}  // namespace

CudaCode launch_op(const Launcher& launcher, const SiluMulArgs& args) {
  return launch(launcher, silu_mul_kernel, {{blocks_of(args.count, kThreads)}, kThreads}, args);
}

}  // namespace outrigger::cuda
