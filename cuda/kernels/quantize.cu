// Int8 activations: a group of 32 elements a warp.
#include "cuda/kernels/ops.h"
#include "cuda/kernels/quantize_group.h"

namespace outrigger::cuda {
namespace {

constexpr uint32_t kGroupsOfBlock = 4;
constexpr uint32_t kThreads = kGroupsOfBlock * kWarp;

OTR_KERNEL_OF(kThreads) void quantize_kernel(QuantizeArgs args, size_t first_token) {
  const uint32_t group = block_x() * kGroupsOfBlock + thread_index() / kWarp, lane = thread_index() % kWarp;
  const size_t token = first_token + block_y();
  if (group >= args.width / kGroup) return;
  (void)quantize_group(args, token, group, args.src[token * args.src_stride + group * kGroup + lane]);
}

}  // namespace

CudaCode launch_op(const Launcher& launcher, const QuantizeArgs& args) {
  return launch_tokens(args.tokens, [&](size_t first, uint32_t tokens) {
    return launch(launcher, quantize_kernel, {{blocks_of(args.width / kGroup, kGroupsOfBlock), tokens}, kThreads}, args, first);
  });
}

}  // namespace outrigger::cuda
