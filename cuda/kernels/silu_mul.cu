// SwiGLU's middle: an element a thread. A warp quantises its elements, if that is asked for: a launch in place of two.
#include "cuda/kernels/exp.h"
#include "cuda/kernels/ops.h"
#include "cuda/kernels/quantize_group.h"

namespace outrigger::cuda {
namespace {

constexpr uint32_t kThreads = 256;

OTR_DEVICE float silu_mul_at(const SiluMulArgs& args, size_t i) {
  const float gate = args.gate[i];
  return gate / (1 + exp_of(-gate)) * args.up[i];
}

OTR_KERNEL_OF(kThreads) void silu_mul_kernel(SiluMulArgs args) {
  const size_t i = size_t{block_x()} * kThreads + thread_index();
  if (i < args.count) args.dst[i] = silu_mul_at(args, i);
}

// The last warps of a row's last block may have no group.
OTR_KERNEL_OF(kThreads) void silu_panel_kernel(SiluMulArgs args, QuantizeArgs panel, size_t first_token) {
  const uint32_t i = block_x() * kThreads + thread_index();
  const size_t token = first_token + block_y(), at = token * panel.width + i;
  if (i >= panel.width) return;
  const float value = silu_mul_at(args, at);
  args.dst[at] = value;
  (void)quantize_group(panel, token, i / kGroup, value);
}

}  // namespace

CudaCode launch_op(const Launcher& launcher, const SiluMulArgs& args) {
  return launch(launcher, silu_mul_kernel, {{blocks_of(args.count, kThreads)}, kThreads}, args);
}

CudaCode launch_silu(const Launcher& launcher, const SiluMulArgs& silu, const QuantizeArgs& panel) {
  return launch_tokens(panel.tokens, [&](size_t first, uint32_t tokens) {
    return launch(launcher, silu_panel_kernel, {{blocks_of(panel.width, kThreads), tokens}, kThreads}, silu, panel, first);
  });
}

}  // namespace outrigger::cuda
