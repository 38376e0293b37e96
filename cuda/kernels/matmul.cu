// The choice of a product's kernel.
#include "cuda/kernels/matmul_call.h"
#include "cuda/kernels/ops.h"

namespace outrigger::cuda {
namespace {

template <PackedKind kKind>
CudaCode launch_kind(const Launcher& launcher, std::span<const MatmulArgs> all) {
  return all[0].panel != nullptr ? launch_int8_products<kKind>(launcher, all) : launch_plain_product<kKind>(launcher, all[0]);
}

}  // namespace

bool can_join(const MatmulArgs& first, const MatmulArgs& next) {
  return takes_int8_activations(first.kind) && first.kind == next.kind && first.panel != nullptr && first.panel == next.panel &&
         first.tokens == next.tokens && first.columns == next.columns;
}

CudaCode launch_op(const Launcher& launcher, const MatmulArgs& args) { return launch_products(launcher, {&args, 1}); }

CudaCode launch_products(const Launcher& launcher, std::span<const MatmulArgs> all) {
  switch (all[0].kind) {
    case PackedKind::kF32:
    case PackedKind::kF16:
    case PackedKind::kBF16:
      return launch_dense_product(launcher, all[0]);
    case PackedKind::kQ8_0:
      return launch_kind<PackedKind::kQ8_0>(launcher, all);
    case PackedKind::kQ4_0:
      return launch_kind<PackedKind::kQ4_0>(launcher, all);
    case PackedKind::kQ4_1:
      return launch_kind<PackedKind::kQ4_1>(launcher, all);
    case PackedKind::kQ5_0:
      return launch_kind<PackedKind::kQ5_0>(launcher, all);
    case PackedKind::kQ5_1:
      return launch_kind<PackedKind::kQ5_1>(launcher, all);
    case PackedKind::kQ2_K:
      return launch_kind<PackedKind::kQ2_K>(launcher, all);
    case PackedKind::kQ3_K:
      return launch_kind<PackedKind::kQ3_K>(launcher, all);
    case PackedKind::kQ4_K:
      return launch_kind<PackedKind::kQ4_K>(launcher, all);
    case PackedKind::kQ5_K:
      return launch_kind<PackedKind::kQ5_K>(launcher, all);
    case PackedKind::kQ6_K:
      return launch_kind<PackedKind::kQ6_K>(launcher, all);
    case PackedKind::kIQ4_NL:
      return launch_kind<PackedKind::kIQ4_NL>(launcher, all);
    case PackedKind::kIQ4_XS:
      return launch_kind<PackedKind::kIQ4_XS>(launcher, all);
    case PackedKind::kMXFP4:
      return launch_kind<PackedKind::kMXFP4>(launcher, all);
    case PackedKind::kO2:
      return launch_kind<PackedKind::kO2>(launcher, all);
    case PackedKind::kO3:
      return launch_kind<PackedKind::kO3>(launcher, all);
    case PackedKind::kO4:
      return launch_kind<PackedKind::kO4>(launcher, all);
    case PackedKind::kN2:
      return launch_kind<PackedKind::kN2>(launcher, all);
    case PackedKind::kN3:
      return launch_kind<PackedKind::kN3>(launcher, all);
    case PackedKind::kN4:
      return launch_kind<PackedKind::kN4>(launcher, all);
    case PackedKind::kO2_128:
      return launch_kind<PackedKind::kO2_128>(launcher, all);
    case PackedKind::kO3_128:
      return launch_kind<PackedKind::kO3_128>(launcher, all);
    case PackedKind::kO4_128:
      return launch_kind<PackedKind::kO4_128>(launcher, all);
    case PackedKind::kN2_128:
      return launch_kind<PackedKind::kN2_128>(launcher, all);
    case PackedKind::kN3_128:
      return launch_kind<PackedKind::kN3_128>(launcher, all);
    case PackedKind::kN4_128:
      return launch_kind<PackedKind::kN4_128>(launcher, all);
  }
  return kCudaInvalidValue;
}

}  // namespace outrigger::cuda
