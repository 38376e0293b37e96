// What quantisation lost: an element a thread.
#include "cuda/kernels/device_code.h"
#include "cuda/kernels/ops.h"
#include "cuda/kernels/panel_place.h"

namespace outrigger::cuda {
namespace {

constexpr uint32_t kThreads = 256;

OTR_KERNEL_OF(kThreads) void remainder_kernel(RemainderArgs args, size_t first_token) {
  const uint32_t i = block_x() * kThreads + thread_index();
  const size_t token = first_token + block_y(), at = token * args.of.src_stride + i;
  if (i >= args.of.width) return;
  const PanelPlace place(args.of, token, i / kGroup);
  const float code = static_cast<float>(reinterpret_cast<const int8_t*>(place.codes())[i % kGroup]);
  args.remainder[at] = args.of.src[at] - code * as_float(*place.word(0));
}

}  // namespace

CudaCode launch_op(const Launcher& launcher, const RemainderArgs& args) {
  return launch_tokens(args.of.tokens, [&](size_t first, uint32_t tokens) {
    return launch(launcher, remainder_kernel, {{blocks_of(args.of.width, kThreads), tokens}, kThreads}, args, first);
  });
}

}  // namespace outrigger::cuda
