// What the product's kernels are given, and what an output element gets.
#ifndef OUTRIGGER_CUDA_KERNELS_MATMUL_CALL_H_
#define OUTRIGGER_CUDA_KERNELS_MATMUL_CALL_H_

#include <span>

#include "cuda/kernels/device_code.h"
#include "cuda/kernels/ops.h"
#include "src/kernels/matmul.h"

namespace outrigger::cuda {

struct MatmulCall {
  const std::byte* weights;
  uint64_t block_bytes;
  const std::byte* panel;  ///< null: src
  const float* src;
  uint64_t src_stride;
  float* dst;
  uint64_t dst_stride;
  uint32_t rows, columns, tokens;
  bool accumulates;

  MatmulCall() = default;
  explicit MatmulCall(const MatmulArgs& args)
      : weights(args.weights),
        block_bytes(args.block_bytes()),
        panel(args.panel),
        src(args.src),
        src_stride(args.src_stride),
        dst(args.dst),
        dst_stride(args.dst_stride),
        rows(static_cast<uint32_t>(args.rows)),
        columns(static_cast<uint32_t>(args.columns)),
        tokens(static_cast<uint32_t>(args.tokens)),
        accumulates(args.accumulate) {}

  /// A row block, the last one for those beyond it: lanes without rows of their own read what others read, and write nothing.
  OTR_DEVICE const std::byte* block(uint32_t index) const {
    const uint32_t last = (rows - 1) / kPackRows;
    return weights + (index < last ? index : last) * block_bytes;
  }
  OTR_DEVICE void store(uint32_t row, uint32_t token, float sum) const {
    float* const at = dst + token * dst_stride + row;
    *at = accumulates ? *at + sum : sum;
  }
};

/// Products of the same tokens with several matrices of a kind, in one launch: their strips of rows one after the other.
struct MatmulGroup {
  MatmulCall calls[kMostJoined];
  uint32_t first_strips[kMostJoined] = {};  ///< in units of the kernel's rows
  uint32_t count;

  /// `rows_each`: rows of a kernel's strip. At most kMostJoined of the same panel.
  MatmulGroup(std::span<const MatmulArgs> all, uint32_t rows_each) : count(static_cast<uint32_t>(all.size())) {
    for (uint32_t i = 0; i < count; ++i) {
      calls[i] = MatmulCall(all[i]);
      if (i + 1 < count) first_strips[i + 1] = first_strips[i] + blocks_of(all[i].rows, rows_each);
    }
  }
  /// Which product a strip of the launch is of.
  OTR_DEVICE uint32_t call_of(uint32_t strip) const {
    uint32_t i = count - 1;
    while (strip < first_strips[i]) --i;
    return i;
  }
};

/// Strips of so many rows that the products have together.
inline uint32_t strips_of(std::span<const MatmulArgs> all, uint32_t rows_each) {
  uint32_t strips = 0;
  for (const MatmulArgs& args : all) strips += blocks_of(args.rows, rows_each);
  return strips;
}

/// The products by kind; kinds have files of their own, since they compile for long. Precondition of the first: can_join, and
/// the panel holds int8.
template <PackedKind kKind>
CudaCode launch_int8_products(const Launcher& launcher, std::span<const MatmulArgs> all);
/// Without a panel: every quantised kind, and the floats, whose activations may be bf16 for bf16 weights.
template <PackedKind kKind>
CudaCode launch_plain_product(const Launcher& launcher, const MatmulArgs& args);
CudaCode launch_dense_product(const Launcher& launcher, const MatmulArgs& args);

}  // namespace outrigger::cuda

#endif  // OUTRIGGER_CUDA_KERNELS_MATMUL_CALL_H_
