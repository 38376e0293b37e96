// CudaStream: a stream of the runtime, and a ring of events recorded in it.
#ifndef OUTRIGGER_CUDA_DEVICE_CUDA_STREAM_H_
#define OUTRIGGER_CUDA_DEVICE_CUDA_STREAM_H_

#include <array>
#include <cstdint>

#include "cuda/device/cuda_api.h"

namespace outrigger::cuda {

/// Points of the stream are numbered as they are recorded, from 1; 0 is its beginning. Of a point that the ring has forgotten, the oldest
/// one that it knows is taken instead: it lies behind it in the same stream. Not thread-safe. Functions return the runtime's code.
class CudaStream {
 public:
  /// More than a step records between two waits of the host, so that forgetting is rare.
  static constexpr uint64_t kRing = 256;

  explicit CudaStream(const CudaApi& api) : api_(&api) {}
  /// Makes the stream and all its events; what was made before a failure is for close().
  CudaCode open(bool is_urgent);
  void close() noexcept;

  StreamHandle handle() const { return stream_; }
  /// Something was submitted to handle().
  void note_work() { has_new_work_ = true; }
  /// The number of the point behind all that was submitted.
  CudaCode record(uint64_t* point);
  bool is_known(uint64_t point) const { return point <= recorded_; }
  /// Ready, or not: kCudaNotReady. Precondition of both: is_known.
  CudaCode query(uint64_t point);
  /// What is submitted to `other` from now on begins after the point.
  CudaCode make_wait(CudaStream& other, uint64_t point) const;

 private:
  uint64_t known(uint64_t point) const { return recorded_ > kRing && point <= recorded_ - kRing ? recorded_ - kRing + 1 : point; }
  EventHandle event(uint64_t point) const { return events_[point % kRing]; }

  const CudaApi* api_;
  StreamHandle stream_ = nullptr;
  std::array<EventHandle, kRing> events_{};
  uint64_t recorded_ = 0, done_ = 0;  // points: the last, and the last that was found ready
  bool has_new_work_ = false;         // behind the last point
};

}  // namespace outrigger::cuda

#endif  // OUTRIGGER_CUDA_DEVICE_CUDA_STREAM_H_
