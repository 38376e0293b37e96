// What the host computed of a sum, added: an element a thread.
#include "cuda/kernels/device_code.h"
#include "cuda/kernels/ops.h"

namespace outrigger::cuda {
namespace {

constexpr uint32_t kThreads = 256;

OTR_KERNEL void add_kernel(AddArgs args) {
  const size_t i = size_t{block_x()} * kThreads + thread_index();
  if (i < args.width) args.dst[block_y() * args.dst_stride + i] += args.src[block_y() * args.src_stride + i];
}

}  // namespace

CudaCode launch_op(const Launcher& launcher, const AddArgs& args) {
  return launch_tokens(args.tokens, [&](size_t first, uint32_t tokens) {
    AddArgs part = args;
    part.src += first * args.src_stride;
    part.dst += first * args.dst_stride;
    part.tokens = tokens;
    return launch(launcher, add_kernel, {{blocks_of(args.width, kThreads), tokens}, kThreads}, part);
  });
}

}  // namespace outrigger::cuda
