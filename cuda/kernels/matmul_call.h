// What the product's kernels are given, and what an output element gets.
#ifndef OUTRIGGER_CUDA_KERNELS_MATMUL_CALL_H_
#define OUTRIGGER_CUDA_KERNELS_MATMUL_CALL_H_

#include "cuda/kernels/device_code.h"
#include "cuda/kernels/launch.h"
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

/// The products by kind; each is defined in a file of its own, since they compile for long. Precondition: args.panel holds int8.
template <PackedKind kKind>
CudaCode launch_int8_product(const Launcher& launcher, const MatmulArgs& args);
/// Without a panel: every quantised kind, and the floats, whose activations may be bf16 for bf16 weights.
template <PackedKind kKind>
CudaCode launch_plain_product(const Launcher& launcher, const MatmulArgs& args);
CudaCode launch_dense_product(const Launcher& launcher, const MatmulArgs& args);

}  // namespace outrigger::cuda

#endif  // OUTRIGGER_CUDA_KERNELS_MATMUL_CALL_H_
