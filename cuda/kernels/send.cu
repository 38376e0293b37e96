// Floats for the host, each as a word of the handoff: one a thread.
#include "cuda/kernels/device_code.h"
#include "cuda/kernels/ops.h"

namespace outrigger::cuda {
namespace {

constexpr uint32_t kThreads = 256;

OTR_KERNEL_OF(kThreads) void send_kernel(SendArgs args, Varying number) {
  const size_t i = size_t{block_x()} * kThreads + thread_index();
  if (i >= args.count) return;
  const uint64_t its_number = number.at != nullptr ? *number.at : number.value;
  store_for_host(args.words + i, its_number << 32 | as_bits(args.src[i]));
}

}  // namespace

CudaCode launch_op(const Launcher& launcher, const SendArgs& args) {
  return launch(launcher, send_kernel, {{blocks_of(args.count, kThreads)}, kThreads}, args, varying(launcher, args.number));
}

}  // namespace outrigger::cuda
