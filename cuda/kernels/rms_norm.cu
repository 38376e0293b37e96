// RMSNorm: a block a row, or a warp where rows are short, as those of single heads are. The squares are summed by one warp's 32 lanes, each
// lane a chain in order. A block quantises what it has normalised, if that is asked for: a launch in place of up to four.
#include "cuda/kernels/ops.h"
#include "cuda/kernels/quantize_group.h"

namespace outrigger::cuda {
namespace {

static_assert(kRmsNormLanes == kWarp, "a lane of the sum is a lane of the warp");

/// A warp has a row up to this width; it would wait for its loads longer than the 2 us of a launch beyond it.
constexpr size_t kWarpWidth = 512;
constexpr uint32_t kWarpsOfBlock = 4;
/// Floats of a row that a block keeps in shared memory: 32 KiB.
constexpr uint32_t kChunk = 8192;
/// Loads and additions that are under way at once.
constexpr uint32_t kBatch = 8;

/// What lane thread_index() of the sum has, with the elements [0, count) added; the first is lane 0's.
OTR_DEVICE float add_squares(const float* src, uint32_t count, float sum) {
  for (uint32_t first = thread_index() % kWarp; first < count; first += kBatch * kWarp) {
    float x[kBatch];
    OTR_UNROLL
    for (uint32_t i = 0; i < kBatch; ++i) x[i] = first + i * kWarp < count ? src[first + i * kWarp] : 0;
    // A square is not negative, and neither is a sum of them: adding that of 0 changes no bit.
    OTR_UNROLL
    for (uint32_t i = 0; i < kBatch; ++i) sum = fmaf(x[i], x[i], sum);
  }
  return sum;
}

OTR_DEVICE float scale_of(float sum, const RmsNormArgs& args) {
  return 1 / sqrtf(fold_lanes(sum, kWarp) / static_cast<float>(args.width) + args.epsilon);
}

OTR_KERNEL_OF(kWarpsOfBlock* kWarp) void normalize_short_rows(RmsNormArgs args) {
  const size_t row = size_t{block_x()} * kWarpsOfBlock + thread_index() / kWarp;
  if (row >= args.tokens) return;
  const float* const src = args.src + row * args.width;
  float* const dst = args.dst + row * args.width;
  const uint32_t width = static_cast<uint32_t>(args.width);
  const float scale = scale_of(add_squares(src, width, 0), args);
  for (uint32_t i = thread_index() % kWarp; i < width; i += kWarp) dst[i] = src[i] * scale * args.weight[i];
}

/// What becomes of a row's elements: each warp has whole groups of them.
struct Alone {
  OTR_DEVICE void keep(size_t, uint32_t, float) const {}
};
struct Quantized {
  QuantizeArgs panel;
  OTR_DEVICE void keep(size_t row, uint32_t i, float value) const { (void)quantize_group(panel, row, i / kGroup, value); }
};
struct QuantizedTwice {
  QuantizeArgs panel, lost_panel;
  float* lost;
  OTR_DEVICE void keep(size_t row, uint32_t i, float value) const {
    const float rest = quantize_group(panel, row, i / kGroup, value);
    lost[row * panel.src_stride + i] = rest;
    (void)quantize_group(lost_panel, row, i / kGroup, rest);
  }
};

template <typename Panels>
OTR_KERNEL_OF(1024)
void normalize_rows(RmsNormArgs args, Panels panels) {
  OTR_SHARED float shared_scale[1];
  float* const row = reinterpret_cast<float*>(dynamic_shared());
  const float* const src = args.src + block_x() * args.width;
  float* const dst = args.dst + block_x() * args.width;
  const uint32_t width = static_cast<uint32_t>(args.width), thread = thread_index();
  float sum = 0;
  for (uint32_t begin = 0; begin < width; begin += kChunk) {
    const uint32_t count = width - begin < kChunk ? width - begin : kChunk;
    sync_block();  // the chunk before is summed
    for (uint32_t first = thread; first < count; first += kBatch * block_threads()) {
      float x[kBatch];
      OTR_UNROLL
      for (uint32_t i = 0; i < kBatch; ++i) {
        const uint32_t at = first + i * block_threads();
        x[i] = at < count ? src[begin + at] : 0;
      }
      OTR_UNROLL
      for (uint32_t i = 0; i < kBatch; ++i) {
        const uint32_t at = first + i * block_threads();
        if (at < count) row[at] = x[i];
      }
    }
    sync_block();
    if (thread < kWarp) sum = add_squares(row, count, sum);
  }
  if (thread < kWarp) {
    const float scale = scale_of(sum, args);
    if (thread == 0) shared_scale[0] = scale;
  }
  sync_block();
  const float scale = shared_scale[0];
  const float* const from = width <= kChunk ? row : src;
  for (uint32_t i = thread; i < width; i += block_threads()) {
    const float value = from[i] * scale * args.weight[i];
    dst[i] = value;
    panels.keep(block_x(), i, value);
  }
}

template <typename Panels>
CudaCode launch_rows(const Launcher& launcher, const RmsNormArgs& args, const Panels& panels) {
  const uint32_t threads = args.width <= 2048 ? 256 : args.width <= 4096 ? 512 : 1024;
  const size_t kept = args.width < kChunk ? args.width : kChunk;
  return launch(launcher, normalize_rows<Panels>,
                {{static_cast<uint32_t>(args.tokens)}, threads, static_cast<uint32_t>(kept * sizeof(float))}, args, panels);
}

}  // namespace

CudaCode launch_op(const Launcher& launcher, const RmsNormArgs& args) {
  if (args.width > kWarpWidth) return launch_rows(launcher, args, Alone{});
  return launch(launcher, normalize_short_rows, {{blocks_of(args.tokens, kWarpsOfBlock)}, kWarpsOfBlock * kWarp}, args);
}

CudaCode launch_normed(const Launcher& launcher, const NormedPanels& all) {
  if (all.lost_panel.tokens == 0) return launch_rows(launcher, all.norm, Quantized{all.panel});
  return launch_rows(launcher, all.norm, QuantizedTwice{all.panel, all.lost_panel, all.lost.remainder});
}

}  // namespace outrigger::cuda
