// bf16 activations: a word of two elements a thread.
#include "cuda/kernels/device_code.h"
#include "cuda/kernels/ops.h"

namespace outrigger::cuda {
namespace {

constexpr uint32_t kThreads = 256;

OTR_DEVICE uint32_t round_to_bf16(float value) {
  const uint32_t bits = as_bits(value), magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return bits >> 16 | 0x40;  // quiet: cutting a NaN off could leave an infinity
  if (magnitude < 0x00800000) return bits >> 16 & 0x8000;
  return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

OTR_KERNEL_OF(kThreads) void round_kernel(Bf16Args args, uint32_t row_words) {
  const size_t word = size_t{block_x()} * kThreads + thread_index(), k = 2 * word;
  if (word >= row_words) return;
  const float* const src = args.src + block_y() * args.src_stride;
  const uint32_t first = k < args.width ? round_to_bf16(src[k]) : 0, second = k + 1 < args.width ? round_to_bf16(src[k + 1]) : 0;
  reinterpret_cast<uint32_t*>(args.panel)[size_t{block_y()} * row_words + word] = first | second << 16;
}

}  // namespace

CudaCode launch_op(const Launcher& launcher, const RoundArgs& args) {
  const size_t row_bytes = bf16_row_bytes(args.of.width), row_words = row_bytes / sizeof(uint32_t);
  return launch_tokens(args.tokens, [&](size_t first, uint32_t tokens) {
    Bf16Args part = args.of;
    part.src += first * args.of.src_stride;
    part.panel += first * row_bytes;
    return launch(launcher, round_kernel, {{blocks_of(row_words, kThreads), tokens}, kThreads}, part, static_cast<uint32_t>(row_words));
  });
}

}  // namespace outrigger::cuda
