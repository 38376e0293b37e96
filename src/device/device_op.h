// DeviceOp: an operation a device can run, as plain data: what kind, and the arguments of our kernels with the device's addresses in them.
#ifndef OUTRIGGER_SRC_DEVICE_DEVICE_OP_H_
#define OUTRIGGER_SRC_DEVICE_DEVICE_OP_H_

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <variant>

#include "src/device/handoff_word.h"
#include "src/kernels/activations.h"
#include "src/kernels/add_bias.h"
#include "src/kernels/append_kv.h"
#include "src/kernels/attention.h"
#include "src/kernels/bf16_activations.h"
#include "src/kernels/matmul.h"
#include "src/kernels/move_kv.h"
#include "src/kernels/rms_norm.h"
#include "src/kernels/rope.h"
#include "src/kernels/silu_mul.h"

namespace outrigger {

/// quantization_remainder of all the panel's tokens.
struct RemainderArgs {
  QuantizeArgs of;
  float* remainder;  ///< rows of.src_stride floats apart
};

/// round_activations of so many tokens.
struct RoundArgs {
  Bf16Args of;
  size_t tokens;
};

/// dst[t][i] += src[t][i]: one float addition each. For what the host computed of a sum.
struct AddArgs {
  const float* src;  ///< [tokens, width], rows src_stride floats apart
  size_t src_stride;
  float* dst;  ///< [tokens, width], rows dst_stride floats apart
  size_t dst_stride;
  size_t tokens, width;
};

/// From one place in the device's memory to another, which do not overlap.
struct CopyArgs {
  const std::byte* src;
  std::byte* dst;
  uint64_t bytes;
};

/// For the host, in the middle of what was submitted: each float as a word of the handoff `number`. `words` are pinned memory.
struct SendArgs {
  const float* src;
  HandoffWord* words;
  size_t count;
  size_t number;  ///< 32 bits of it
};

/// What the host sends: waits until all words are of the handoff `number`, then dst[i] += what they carry, or = where it does not
/// accumulate. It gives up, and leaves `dst` as it is or half done, once *closed is not 0, and makes it kHandoffTimedOut itself after
/// `patience_ns`. `words` and `closed` are pinned memory.
struct ReceiveArgs {
  const HandoffWord* words;
  HandoffWord* closed;
  float* dst;
  size_t count;
  bool accumulate;
  size_t number;
  uint64_t patience_ns;
};

/// Each stands for the whole kernel: all row blocks, all tokens, all heads. A list of operations and not a function to call, because a
/// function of the host is nothing that a device can run, and because a list can be checked before it runs, printed and recorded.
using DeviceOp = std::variant<MatmulArgs, QuantizeArgs, RemainderArgs, RoundArgs, RmsNormArgs, RopeArgs, AppendKvArgs, AttentionArgs,
                              SiluMulArgs, AddBiasArgs, AddArgs, CopyArgs, MoveKvArgs, SendArgs, ReceiveArgs>;
static_assert(std::is_trivially_copyable_v<DeviceOp>, "it is copied into a queue");

/// In the order of DeviceOp's alternatives.
enum class DeviceOpKind : uint8_t {
  kMatmul, kQuantize, kRemainder, kRound, kRmsNorm, kRope, kAppendKv, kAttention, kSiluMul, kAddBias, kAdd, kCopy, kMoveKv, kSend, kReceive,
};
inline constexpr size_t kDeviceOpKinds = std::variant_size_v<DeviceOp>;
static_assert(static_cast<size_t>(DeviceOpKind::kReceive) + 1 == kDeviceOpKinds);

/// Whether it is one that meets the host in memory of both, which not every device can.
inline bool is_handoff(DeviceOpKind kind) { return kind == DeviceOpKind::kSend || kind == DeviceOpKind::kReceive; }

inline DeviceOpKind kind_of(const DeviceOp& op) { return static_cast<DeviceOpKind>(op.index()); }

/// "matmul", "quantize" ...
const char* device_op_name(DeviceOpKind kind);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DEVICE_DEVICE_OP_H_
