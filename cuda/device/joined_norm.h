// JoinedNorm: a norm, or SwiGLU's middle, that waits for the activations that are made of it, to be launched with them.
#ifndef OUTRIGGER_CUDA_DEVICE_JOINED_NORM_H_
#define OUTRIGGER_CUDA_DEVICE_JOINED_NORM_H_

#include <optional>
#include <variant>

#include "cuda/kernels/ops.h"

namespace outrigger::cuda {

/// A step's small operations take a microsecond each and as long again to follow one another; those that read what the one before wrote,
/// element by element or group by group, are one launch. Each waits for what its stream is given next. Not thread-safe; allocates nothing.
class JoinedNorm {
 public:
  bool is_empty() const { return std::holds_alternative<std::monostate>(first_); }
  /// Takes the operation if it begins such a row and none waits, or is the next of the one that waits.
  bool add(const DeviceOp& op);
  /// Submits those that wait, which then are none. Returns the runtime's code.
  CudaCode launch(const Launcher& launcher);
  /// How many launches that takes.
  size_t launches() const;

 private:
  bool follows(const QuantizeArgs& panel) const;
  bool add_panel(const QuantizeArgs& panel);

  std::variant<std::monostate, RmsNormArgs, SiluMulArgs> first_;
  std::optional<QuantizeArgs> panel_;
  std::optional<RemainderArgs> lost_;
  std::optional<QuantizeArgs> lost_panel_;
};

}  // namespace outrigger::cuda

#endif  // OUTRIGGER_CUDA_DEVICE_JOINED_NORM_H_
