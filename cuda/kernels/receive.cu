// What the host sends, word by word: one a thread, which waits until it is there.
#include "cuda/kernels/device_code.h"
#include "cuda/kernels/ops.h"

namespace outrigger::cuda {
namespace {

constexpr uint32_t kThreads = 256;

// The word with the number, or one without it where nobody need wait any more.
OTR_DEVICE uint64_t wait_for(const ReceiveArgs& args, size_t i, uint32_t number) {
  uint64_t word = load_from_host(args.words + i);
  if (word >> 32 == number) return word;
  for (const uint64_t begin_ns = now_ns();;) {
    word = load_from_host(args.words + i);
    if (word >> 32 == number || load_from_host(args.closed) != 0) return word;
    if (now_ns() - begin_ns > args.patience_ns) {
      store_for_host(args.closed, kHandoffTimedOut);
      return word;
    }
    nap();
  }
}

// A block's first thread looks for all of them, at the word that is written last: each look is a read over the link, on which they are to
// come.
OTR_KERNEL_OF(kThreads) void receive_kernel(ReceiveArgs args, Varying number) {
  const size_t begin = size_t{block_x()} * kThreads, i = begin + thread_index();
  const uint32_t its_number = number.at != nullptr ? *number.at : number.value;
  if (thread_index() == 0) (void)wait_for(args, (begin + kThreads < args.count ? begin + kThreads : args.count) - 1, its_number);
  sync_block();
  if (i >= args.count) return;
  const uint64_t word = wait_for(args, i, its_number);
  if (word >> 32 != its_number) return;
  const float value = as_float(static_cast<uint32_t>(word));
  args.dst[i] = args.accumulate ? args.dst[i] + value : value;
}

}  // namespace

CudaCode launch_op(const Launcher& launcher, const ReceiveArgs& args) {
  return launch(launcher, receive_kernel, {{blocks_of(args.count, kThreads)}, kThreads}, args, varying(launcher, args.number));
}

}  // namespace outrigger::cuda
