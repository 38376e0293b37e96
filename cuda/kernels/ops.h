// The operations of a device as kernels: one launcher each, with the arguments of src/kernels and addresses of the device in them.
//
// They give the bits of src/kernels, whatever the card: sums of integers are exact, and floats are added in the order that the plain twins
// have.
#ifndef OUTRIGGER_CUDA_KERNELS_OPS_H_
#define OUTRIGGER_CUDA_KERNELS_OPS_H_

#include <span>

#include "cuda/kernels/launch.h"
#include "src/device/device_op.h"

namespace outrigger::cuda {

/// Submit one operation. Precondition: check_op() found it right, and its addresses are the device's. Allocate nothing; any thread. Return
/// the runtime's code.
CudaCode launch_op(const Launcher& launcher, const MatmulArgs& args);
CudaCode launch_op(const Launcher& launcher, const QuantizeArgs& args);
CudaCode launch_op(const Launcher& launcher, const RemainderArgs& args);
CudaCode launch_op(const Launcher& launcher, const RoundArgs& args);
CudaCode launch_op(const Launcher& launcher, const RmsNormArgs& args);
CudaCode launch_op(const Launcher& launcher, const RopeArgs& args);
CudaCode launch_op(const Launcher& launcher, const AppendKvArgs& args);
CudaCode launch_op(const Launcher& launcher, const AttentionArgs& args);
CudaCode launch_op(const Launcher& launcher, const SiluMulArgs& args);
CudaCode launch_op(const Launcher& launcher, const AddBiasArgs& args);
CudaCode launch_op(const Launcher& launcher, const AddArgs& args);
CudaCode launch_op(const Launcher& launcher, const CopyArgs& args);
CudaCode launch_op(const Launcher& launcher, const MoveKvArgs& args);
CudaCode launch_op(const Launcher& launcher, const SendArgs& args);
CudaCode launch_op(const Launcher& launcher, const ReceiveArgs& args);

/// Products that may be launched as one: of a kind, with the same int8 panel, tokens and columns.
inline constexpr uint32_t kMostJoined = 4;
bool can_join(const MatmulArgs& first, const MatmulArgs& next);
/// Submits 1 to kMostJoined products, which are independent of each other and can_join the first: small matrices alone leave most of a card
/// idle. The bits are those of each alone.
CudaCode launch_products(const Launcher& launcher, std::span<const MatmulArgs> all);

/// A norm and what comes of it: int8 activations, what these lost, and that as int8 activations, each of all that the norm made. Those from
/// some point on may not be wanted (their tokens are 0).
struct NormedPanels {
  RmsNormArgs norm;
  QuantizeArgs panel;
  RemainderArgs lost;
  QuantizeArgs lost_panel;
};
/// Rows that a block has; shorter ones are a warp's, and are not quantised with it.
inline bool can_quantize_normed(const RmsNormArgs& norm) { return norm.width > 512 && norm.width % kGroup == 0; }
/// Submits one launch for `panel`, and `lost` with `lost_panel` or neither. No address may be read by one and written by another but as
/// said. The bits are those of each alone.
CudaCode launch_normed(const Launcher& launcher, const NormedPanels& all);

/// The same of SwiGLU's middle, whose rows are those of the panel. Precondition: as many elements.
CudaCode launch_silu(const Launcher& launcher, const SiluMulArgs& silu, const QuantizeArgs& panel);

/// Bytes that AttentionArgs::scratch must have on the device; depends on head_dim alone.
uint64_t attention_scratch_on_device(size_t head_dim);

}  // namespace outrigger::cuda

#endif  // OUTRIGGER_CUDA_KERNELS_OPS_H_
