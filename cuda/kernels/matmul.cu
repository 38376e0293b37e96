// The choice of a product's kernel.
#include "cuda/kernels/matmul_call.h"
#include "cuda/kernels/ops.h"

namespace outrigger::cuda {
namespace {

template <PackedKind kKind>
CudaCode launch_product(const Launcher& launcher, const MatmulArgs& args) {
  return args.panel != nullptr ? launch_int8_product<kKind>(launcher, args) : launch_plain_product<kKind>(launcher, args);
}

}  // namespace

CudaCode launch_op(const Launcher& launcher, const MatmulArgs& args) {
  switch (args.kind) {
    case PackedKind::kF32:
    case PackedKind::kF16:
    case PackedKind::kBF16:
      return launch_dense_product(launcher, args);
    case PackedKind::kQ8_0:
      return launch_product<PackedKind::kQ8_0>(launcher, args);
    case PackedKind::kQ4_0:
      return launch_product<PackedKind::kQ4_0>(launcher, args);
    case PackedKind::kQ4_1:
      return launch_product<PackedKind::kQ4_1>(launcher, args);
    case PackedKind::kQ5_0:
      return launch_product<PackedKind::kQ5_0>(launcher, args);
    case PackedKind::kQ5_1:
      return launch_product<PackedKind::kQ5_1>(launcher, args);
    case PackedKind::kQ2_K:
      return launch_product<PackedKind::kQ2_K>(launcher, args);
    case PackedKind::kQ3_K:
      return launch_product<PackedKind::kQ3_K>(launcher, args);
    case PackedKind::kQ4_K:
      return launch_product<PackedKind::kQ4_K>(launcher, args);
    case PackedKind::kQ5_K:
      return launch_product<PackedKind::kQ5_K>(launcher, args);
    case PackedKind::kQ6_K:
      return launch_product<PackedKind::kQ6_K>(launcher, args);
    case PackedKind::kIQ4_NL:
      return launch_product<PackedKind::kIQ4_NL>(launcher, args);
    case PackedKind::kIQ4_XS:
      return launch_product<PackedKind::kIQ4_XS>(launcher, args);
    case PackedKind::kMXFP4:
      return launch_product<PackedKind::kMXFP4>(launcher, args);
    case PackedKind::kO2:
      return launch_product<PackedKind::kO2>(launcher, args);
    case PackedKind::kO3:
      return launch_product<PackedKind::kO3>(launcher, args);
    case PackedKind::kO4:
      return launch_product<PackedKind::kO4>(launcher, args);
  }
  return kCudaInvalidValue;
}

}  // namespace outrigger::cuda
