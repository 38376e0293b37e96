// The product of float weights. Two sums for each row and token, over even and odd k (or pairs), as the plain twin has them: a lane each.
#include "cuda/kernels/matmul_call.h"
#include "src/kernels/bf16_activations.h"

namespace outrigger::cuda {
namespace {

constexpr uint32_t kWarps = 4;
constexpr uint32_t kStageLoads = 8;  // of 16 bytes a lane: what a warp has in flight
constexpr uint32_t kStageBytes = kStageLoads * kWarp * sizeof(U4);

OTR_DEVICE float bf16_to_float_of(uint32_t bits) { return as_float(bits << 16); }

// One warp, one row block. Lane l has row l % 16 and the sum l / 16.
template <PackedKind kKind, bool kHasPanel, uint32_t kTokens>
class DenseProduct {
  static constexpr uint32_t kElementBytes = kKind == PackedKind::kF32 ? 4 : 2;
  static constexpr uint32_t kStageColumns = kStageBytes / (kPackRows * kElementBytes);

 public:
  OTR_DEVICE DenseProduct(const MatmulCall& call, uint32_t block, uint32_t first_token, U4* stage)
      : call_(call),
        lane_(thread_index() % kWarp),
        row_(lane_ % kPackRows),
        chain_(lane_ / kPackRows),
        block_(block),
        first_token_(first_token),
        tokens_(call.tokens - first_token < kTokens ? call.tokens - first_token : kTokens),
        weights_(reinterpret_cast<const U4*>(call.block(block))),
        stage_(stage) {}

  OTR_DEVICE void run() {
    load(0);
    for (uint32_t first = 0; first < call_.columns; first += kStageColumns) {
      sync_warp();  // the last stage has been read
      OTR_UNROLL
      for (uint32_t i = 0; i < kStageLoads; ++i) stage_[i * kWarp + lane_] = loaded_[i];
      sync_warp();
      load(first + kStageColumns);
      add(first);
    }
    OTR_UNROLL
    for (uint32_t t = 0; t < kTokens; ++t) {
      const float other = shuffle_from(sums_[t], lane_ % kPackRows + kPackRows);
      const uint32_t row = block_ * kPackRows + row_;
      if (chain_ == 0 && t < tokens_ && row < call_.rows) call_.store(row, first_token_ + t, sums_[t] + other);
    }
  }

 private:
  OTR_DEVICE void load(uint32_t first_column) {
    const uint32_t first = first_column * kPackRows * kElementBytes / sizeof(U4),
                   end = static_cast<uint32_t>(call_.block_bytes / sizeof(U4));
    OTR_UNROLL
    for (uint32_t i = 0; i < kStageLoads; ++i) {
      const uint32_t at = first + i * kWarp + lane_;
      if (at < end) loaded_[i] = load_once(weights_ + at);
    }
  }

  OTR_DEVICE void add(uint32_t first) {
    const uint32_t count = call_.columns - first < kStageColumns ? call_.columns - first : kStageColumns;
    if constexpr (kHasPanel) {
      for (uint32_t pair = chain_; pair < (count + 1) / 2; pair += 2) {
        const uint32_t weights = reinterpret_cast<const uint32_t*>(stage_)[pair * kPackRows + row_];
        OTR_UNROLL
        for (uint32_t t = 0; t < kTokens; ++t) {
          if (t >= tokens_) continue;
          const auto* const panel = reinterpret_cast<const uint32_t*>(call_.panel + (first_token_ + t) * bf16_bytes());
          const uint32_t tokens = panel[first / 2 + pair];
          sums_[t] = fmaf(bf16_to_float_of(weights >> 16), bf16_to_float_of(tokens >> 16), sums_[t]);
          sums_[t] = fmaf(bf16_to_float_of(weights & 0xffff), bf16_to_float_of(tokens & 0xffff), sums_[t]);
        }
      }
    } else {
#if defined(__CUDACC__)
#pragma unroll 8
#endif
      for (uint32_t k = chain_; k < count; k += 2) {
        const float weight = element(k);
        OTR_UNROLL
        for (uint32_t t = 0; t < kTokens; ++t) {
          if (t < tokens_) sums_[t] = fmaf(weight, call_.src[(first_token_ + t) * call_.src_stride + first + k], sums_[t]);
        }
      }
    }
  }

  OTR_DEVICE float element(uint32_t k) const {
    if constexpr (kKind == PackedKind::kF32) return reinterpret_cast<const float*>(stage_)[k * kPackRows + row_];
    if constexpr (kKind == PackedKind::kF16) return half_to_float(reinterpret_cast<const uint16_t*>(stage_)[k * kPackRows + row_]);
    return bf16_to_float_of(reinterpret_cast<const uint16_t*>(stage_)[(k / 2 * kPackRows + row_) * 2 + k % 2]);
  }
  // As bf16_row_bytes(), which is the host's.
  OTR_DEVICE size_t bf16_bytes() const { return (size_t{call_.columns} + kBf16PerLine - 1) / kBf16PerLine * kBf16PerLine * 2; }

  const MatmulCall& call_;
  const uint32_t lane_, row_, chain_, block_, first_token_, tokens_;
  const U4* const weights_;
  U4* const stage_;
  U4 loaded_[kStageLoads];
  float sums_[kTokens] = {};
};

template <PackedKind kKind, bool kHasPanel, uint32_t kTokens>
OTR_KERNEL_OF(kWarps* kWarp)
void matmul_dense_kernel(MatmulCall call) {
  OTR_SHARED U4 stages[kWarps][kStageLoads * kWarp];
  const uint32_t warp = thread_index() / kWarp, block = block_y() * kWarps + warp;
  if (block * kPackRows < call.rows) DenseProduct<kKind, kHasPanel, kTokens>(call, block, block_x() * kTokens, stages[warp]).run();
}

template <PackedKind kKind, bool kHasPanel, uint32_t kTokens>
CudaCode launch_tokens_at_once(const Launcher& launcher, const MatmulArgs& args) {
  const LaunchSize size{{blocks_of(args.tokens, kTokens), blocks_of(args.rows, kWarps * kPackRows)}, kWarps * kWarp};
  return launch(launcher, matmul_dense_kernel<kKind, kHasPanel, kTokens>, size, MatmulCall(args));
}

template <PackedKind kKind, bool kHasPanel>
CudaCode launch_dense(const Launcher& launcher, const MatmulArgs& args) {
  if (args.tokens == 1) return launch_tokens_at_once<kKind, kHasPanel, 1>(launcher, args);
  return launch_tokens_at_once<kKind, kHasPanel, 4>(launcher, args);
}

}  // namespace

CudaCode launch_dense_product(const Launcher& launcher, const MatmulArgs& args) {
  if (args.kind == PackedKind::kF32) return launch_dense<PackedKind::kF32, false>(launcher, args);
  if (args.kind == PackedKind::kF16) return launch_dense<PackedKind::kF16, false>(launcher, args);
  if (args.panel != nullptr) return launch_dense<PackedKind::kBF16, true>(launcher, args);
  return launch_dense<PackedKind::kBF16, false>(launcher, args);
}

}  // namespace outrigger::cuda
