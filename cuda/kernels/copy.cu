// Copies within the device: 16 bytes a thread where both places are aligned alike, else 4, else 1.
#include "cuda/kernels/device_code.h"
#include "cuda/kernels/ops.h"

namespace outrigger::cuda {
namespace {

constexpr uint32_t kThreads = 256;

/// Whole words from the first aligned place on, and by the first block the bytes before and behind them: fewer than its threads.
template <typename Word>
OTR_KERNEL_OF(kThreads)
void copy_kernel(CopyArgs args, uint32_t head_bytes) {
  const uint64_t words = (args.bytes - head_bytes) / sizeof(Word), i = uint64_t{block_x()} * kThreads + thread_index();
  if (i < words) reinterpret_cast<Word*>(args.dst + head_bytes)[i] = reinterpret_cast<const Word*>(args.src + head_bytes)[i];
  if (i < head_bytes) args.dst[i] = args.src[i];
  const uint64_t end = head_bytes + words * sizeof(Word);
  if (i < args.bytes - end) args.dst[end + i] = args.src[end + i];
}

template <typename Word>
CudaCode launch_copy(const Launcher& launcher, const CopyArgs& args) {
  const uint64_t before = (sizeof(Word) - reinterpret_cast<uintptr_t>(args.src) % sizeof(Word)) % sizeof(Word);
  const uint32_t head_bytes = static_cast<uint32_t>(before < args.bytes ? before : args.bytes);
  const uint32_t blocks = blocks_of((args.bytes - head_bytes) / sizeof(Word), kThreads);
  return launch(launcher, copy_kernel<Word>, {{blocks > 0 ? blocks : 1}, kThreads}, args, head_bytes);
}

}  // namespace

CudaCode launch_op(const Launcher& launcher, const CopyArgs& args) {
  const uintptr_t differing = reinterpret_cast<uintptr_t>(args.src) ^ reinterpret_cast<uintptr_t>(args.dst);
  if (differing % sizeof(U4) == 0) return launch_copy<U4>(launcher, args);
  if (differing % sizeof(uint32_t) == 0) return launch_copy<uint32_t>(launcher, args);
  return launch_copy<uint8_t>(launcher, args);
}

}  // namespace outrigger::cuda
