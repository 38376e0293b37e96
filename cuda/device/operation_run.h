// OperationRun: what a stream was given between two points at which anything could have waited for it.
#ifndef OUTRIGGER_CUDA_DEVICE_OPERATION_RUN_H_
#define OUTRIGGER_CUDA_DEVICE_OPERATION_RUN_H_

#include <array>
#include <cstdint>
#include <span>

#include "src/device/device_op.h"

namespace outrigger::cuda {

/// An operation's kind and all of its arguments but first_position and a handoff's number, a word each: operations with equal keys are
/// launched alike but for these.
using OperationKey = std::array<uint64_t, 18>;
OperationKey key_of(const DeviceOp& op);
/// What of it varies where its key does not, a number of 32 bits: where its positions begin, or which handoff it is. Null for others.
const size_t* varying_of(const DeviceOp& op);

/// Operations in order, checked and with the device's addresses. Not thread-safe; allocates nothing.
class OperationRun {
 public:
  /// A layer is some 17 of them. A device waits until those of a run that may be repeated are there, 0.2 us each, so that a step is several
  /// runs; and a graph's launch costs as much as a few of them.
  static constexpr size_t kMost = 256;

  size_t size() const { return size_; }
  bool is_full() const { return size_ == kMost; }
  std::span<const DeviceOp> operations() const { return std::span(operations_).first(size_); }
  std::span<const OperationKey> keys() const { return std::span(keys_).first(size_); }
  uint64_t hash() const { return hash_; }
  /// Whether its launches serve for other positions and handoffs too.
  bool is_repeatable() const { return is_repeatable_; }
  /// Its varying numbers in order; `to` has room for kMost. Returns how many there are.
  size_t copy_varying(uint32_t* to) const;

  /// Precondition: not full.
  void add(const DeviceOp& op);
  /// One of the operations could not be launched: what is left is nothing to repeat.
  void spoil() { is_repeatable_ = false; }
  void clear();

 private:
  std::array<DeviceOp, kMost> operations_{};
  std::array<OperationKey, kMost> keys_{};
  size_t size_ = 0;
  uint64_t hash_ = 0;
  bool is_repeatable_ = true;
};

}  // namespace outrigger::cuda

#endif  // OUTRIGGER_CUDA_DEVICE_OPERATION_RUN_H_
