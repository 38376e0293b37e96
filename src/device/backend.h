// Backend: the seam between the library and a device. Narrow on purpose: what a backend does not need to know it is not asked.
#ifndef OUTRIGGER_SRC_DEVICE_BACKEND_H_
#define OUTRIGGER_SRC_DEVICE_BACKEND_H_

#include <outrigger/status.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "src/device/device_memory.h"
#include "src/device/device_op.h"
#include "src/device/stream.h"
#include "src/tensor/packed.h"

namespace outrigger {

struct Inventory {
  std::string name;            ///< "cpu", "cuda:0 NVIDIA H100 80GB HBM3", "emulated:memory=268435456B,..."
  uint64_t memory_bytes = 0;   ///< all of the device's memory
  uint64_t free_bytes = 0;     ///< what allocate() may still give, if it were one piece
  bool host_addressable = false;  ///< whether the host may read and write DeviceMemory::data() itself
  /// Of its memory what the backend has besides allocations, as far as it can be known: a context, kernels and graphs so far, and what
  /// allocations are rounded up to.
  uint64_t taken_bytes = 0;
};

/// What a device was given since it was opened.
struct DeviceWorkCounts {
  uint64_t operations = 0;        ///< DeviceOp
  uint64_t launches = 0;          ///< for them, each of one kernel or more, and of graphs
  uint64_t graphs = 0;            ///< of these launches, of operations that were recorded when they came before
  uint64_t graph_operations = 0;  ///< of the operations, those of such launches
  uint64_t handoffs = 0;          ///< of the operations, floats sent to a host that answers meanwhile
};

/// One device. Any thread may call anything at any time. Only allocating allocates: submitting and waiting use fixed pools.
///
/// Work is submitted to streams (stream.h) and runs on its own; a call that submits returns at once, or, when the stream's queue is full,
/// as soon as there is room. Buffers stay with the caller: until the work is done they may be neither released (release waits) nor changed.
///
/// Failures. What the host can see to be wrong is kInvalidArgument, and nothing is submitted. A failure of the device, an address outside
/// its allocations or an alignment it does not have, is kDevice and stays: whatever was submitted is dropped, and every later call but
/// inventory() and giving memory back fails with that Status, until the device is opened anew. Work of the host is not touched.
///
/// Destruction drops what is submitted and waits for what runs. Memory must outlive no backend.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual Inventory inventory() const = 0;
  /// inventory().name without the rest.
  virtual std::string name() const = 0;
  virtual DeviceWorkCounts work() const = 0;

  /// Zeroed memory of the device at a multiple of 4096, which direct I/O asks for, in huge pages where the system has them; 0 bytes are no
  /// memory. Errors: kOutOfMemory, with what is needed and what is left.
  virtual Result<DeviceMemory> allocate(uint64_t bytes) = 0;
  /// Zeroed host memory at a multiple of 4096 that copies can start from and end in. Errors: kOutOfMemory.
  virtual Result<PinnedMemory> allocate_pinned(uint64_t bytes) = 0;

  /// Whether the device has the operation, for weights of this kind where it multiplies by any.
  virtual bool supports(DeviceOpKind op, PackedKind kind) const = 0;
  /// Bytes that the operation's `scratch` must have on this device; 0 for those without.
  virtual uint64_t scratch_bytes(const DeviceOp& op) const = 0;

  /// Submit: `bytes` bytes from or to pinned memory of this backend. Errors: kInvalidArgument for other host memory; kDevice.
  virtual Status copy_to_device(Stream stream, std::byte* dst, const std::byte* src, uint64_t bytes) = 0;
  virtual Status copy_to_host(Stream stream, std::byte* dst, const std::byte* src, uint64_t bytes) = 0;
  /// Submits one operation on device addresses; the arguments are copied. It gives the bits of src/kernels. A backend may keep operations
  /// together until their stream is given anything else, so that record() is what makes sure that they begin. Errors:
  /// kInvalidArgument for dimensions that do not fit together, kDevice.
  virtual Status launch(Stream stream, const DeviceOp& op) = 0;

  /// The point behind all that was submitted to the stream so far.
  virtual Result<Event> record(Stream stream) = 0;
  /// What is submitted to the stream from now on begins after the event.
  virtual Status wait(Stream stream, const Event& event) = 0;
  /// Whether the event is ready; does not wait.
  virtual Result<bool> query(const Event& event) = 0;
  /// Waits until the event is ready. Errors: kDevice; also when it is not ready after `timeout`, which does not stay and after which the
  /// same event may be waited for again.
  virtual Status synchronize(const Event& event, std::chrono::nanoseconds timeout) = 0;
};

/// The backend that `device` names: "cpu", "cuda[:N]" (cuda_loader.h), or
/// "emulated:memory=SIZE,link=RATE[,latency=TIME][,threads=N][,taken=SIZE]" (emulated_device.h). Errors: kUnavailable for "cuda[:N]" in a
/// build or on a machine without it, kOutOfMemory, kInvalidArgument for anything else, with what is wrong.
Result<std::unique_ptr<Backend>> open_backend(const std::string& device);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DEVICE_BACKEND_H_
