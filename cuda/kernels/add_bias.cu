// Adds a bias: an element a thread.
#include "cuda/kernels/device_code.h"
#include "cuda/kernels/ops.h"

namespace outrigger::cuda {
namespace {

constexpr uint32_t kThreads = 256;

OTR_KERNEL_OF(kThreads) void add_bias_kernel(AddBiasArgs args) {
  const size_t r = size_t{block_x()} * kThreads + thread_index();
  if (r < args.rows) args.dst[block_y() * args.dst_stride + r] += args.bias[r];
}

}  // namespace

CudaCode launch_op(const Launcher& launcher, const AddBiasArgs& args) {
  return launch_tokens(args.tokens, [&](size_t first, uint32_t tokens) {
    AddBiasArgs part = args;
    part.dst += first * args.dst_stride;
    part.tokens = tokens;
    return launch(launcher, add_bias_kernel, {{blocks_of(args.rows, kThreads), tokens}, kThreads}, part);
  });
}

}  // namespace outrigger::cuda
