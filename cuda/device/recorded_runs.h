// RecordedRuns: runs of operations that came twice, as CUDA graphs, to be launched as one when they come again.
#ifndef OUTRIGGER_CUDA_DEVICE_RECORDED_RUNS_H_
#define OUTRIGGER_CUDA_DEVICE_RECORDED_RUNS_H_

#include <array>
#include <cstdint>

#include "cuda/device/cuda_stream.h"
#include "cuda/device/operation_run.h"
#include "cuda/kernels/launch.h"

namespace outrigger::cuda {

/// Where a stream must have come before something of it may be used again.
class PointAhead {
 public:
  /// Behind all that was submitted to the stream.
  void set(CudaStream& stream);
  bool is_reached();

 private:
  CudaStream* stream_ = nullptr;  // null: nothing to wait for
  uint64_t point_ = 0;
  bool is_recorded_ = false;  // what could not be recorded is so later
};

/// A run is recorded for its stream after it was launched operation by operation for the second time: recording computes nothing, so that
/// one that fails costs nothing but its time. Such a run is not tried again while it is remembered.
///
/// A graph holds addresses of memory that may have been given back. It is launched only for a run with the same arguments, and those have
/// just been found to lie in memory that there is: what such addresses meant before does not matter.
///
/// Not thread-safe. Allocates nothing of its own; the runtime does while it records.
class RecordedRuns {
 public:
  static constexpr size_t kMost = 16;
  /// Fewer launches than this cost no more than a graph's and its copy.
  static constexpr size_t kLeastOperations = 8;
  /// A run that was used among the last so many gives way to no other: of more runs than there is room for, some stay.
  static constexpr uint64_t kKeptUses = 64;
  /// Runs whose varying numbers are under way: five steps of three.
  static constexpr size_t kSlots = 16;
  /// Varying numbers of each recorded run on the device, and of each slot on the host: 16 KiB each.
  static constexpr uint64_t kDeviceBytes = kMost * OperationRun::kMost * sizeof(uint32_t);
  static constexpr uint64_t kHostBytes = kSlots * OperationRun::kMost * sizeof(uint32_t);

  explicit RecordedRuns(const CudaApi& api) : api_(api) {}
  /// Memory of the device and pinned memory of that many bytes, which outlive what is launched. Without them nothing is recorded.
  void open(std::byte* on_device, std::byte* on_host);
  /// Destroys the graphs. Precondition: what was launched is done.
  void close() noexcept;

  /// Whether a run recorded for the stream begins like this one, which has grown by one operation since it was asked last. `candidate` is
  /// this function's to keep with the run. May be wrong when runs were recorded in between: replay() is not.
  bool begins(const OperationRun& run, const CudaStream& stream, size_t* candidate) const;
  /// Submits the run as a graph. False if there is none that can be launched now: nothing was submitted.
  bool replay(const OperationRun& run, CudaStream& stream);
  /// Tells that the run was launched operation by operation. `launcher` is the stream's.
  void note(const OperationRun& run, CudaStream& stream, const Launcher& launcher);

 private:
  struct Recorded {
    const CudaStream* stream = nullptr;  // null: a free place
    GraphHandle graph = nullptr;
    bool can_launch = false;  // false: it could not be recorded, or launched
    size_t size = 0;
    uint64_t hash = 0, used = 0;
    PointAhead last;
    std::array<OperationKey, OperationRun::kMost> keys{};
  };

  static bool begins_so(const Recorded& recorded, const OperationRun& run, const CudaStream& stream);
  Recorded* find(const OperationRun& run, const CudaStream& stream);
  bool was_seen(uint64_t hash);
  Recorded* make_place();
  void record(Recorded& recorded, const OperationRun& run, const CudaStream& stream, const Launcher& launcher);
  uint32_t* varying_at(const Recorded& recorded) const { return on_device_ + (&recorded - runs_.data()) * OperationRun::kMost; }
  // What varies of the run, where the graph reads it.
  bool send_varying(const Recorded& recorded, const OperationRun& run, CudaStream& stream);

  const CudaApi& api_;
  uint32_t* on_device_ = nullptr;
  uint32_t* on_host_ = nullptr;
  std::array<Recorded, kMost> runs_{};
  std::array<PointAhead, kSlots> slots_{};
  size_t next_slot_ = 0;
  std::array<uint64_t, 64> seen_{};  // hashes of runs that came, a ring
  size_t next_seen_ = 0;
  uint64_t uses_ = 0;
};

}  // namespace outrigger::cuda

#endif  // OUTRIGGER_CUDA_DEVICE_RECORDED_RUNS_H_
