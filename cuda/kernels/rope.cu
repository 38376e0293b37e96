// RoPE: a pair a thread.
#include "cuda/kernels/device_code.h"
#include "cuda/kernels/ops.h"

namespace outrigger::cuda {
namespace {

constexpr uint32_t kThreads = 128;

OTR_KERNEL_OF(kThreads) void rope_kernel(RopeArgs args) {
  const uint32_t pairs = static_cast<uint32_t>(args.rotary_dim / 2), index = block_x() * kThreads + thread_index();
  const uint32_t head = index / pairs, pair = index % pairs;
  if (head >= args.heads) return;
  const bool is_interleaved = args.style == RopeStyle::kInterleaved;
  float* const first = args.x + block_y() * args.stride + head * args.head_dim + (is_interleaved ? 2 * pair : pair);
  float* const second = first + (is_interleaved ? 1 : pairs);
  const float* const cos_sin = args.cos_sin + (size_t{block_y()} * pairs + pair) * 2;
  const float a = *first, b = *second, cosine = cos_sin[0], sine = cos_sin[1];
  *first = fmaf(a, cosine, -(b * sine));
  *second = fmaf(b, cosine, a * sine);
}

}  // namespace

CudaCode launch_op(const Launcher& launcher, const RopeArgs& args) {
  return launch_tokens(args.tokens, [&](size_t first, uint32_t tokens) {
    RopeArgs part = args;
    part.x += first * args.stride;
    part.cos_sin += first * args.rotary_dim;
    part.tokens = tokens;
    return launch(launcher, rope_kernel, {{blocks_of(args.heads * (args.rotary_dim / 2), kThreads), tokens}, kThreads}, part);
  });
}

}  // namespace outrigger::cuda
