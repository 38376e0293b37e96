// Points of a stream.
#include "cuda/device/cuda_stream.h"

namespace outrigger::cuda {

CudaCode CudaStream::open(bool is_urgent) {
  if (const CudaCode code = api_->create_stream(&stream_, is_urgent); code != kCudaOk) return code;
  for (EventHandle& event : events_) {
    if (const CudaCode code = api_->create_event(&event); code != kCudaOk) return code;
  }
  return kCudaOk;
}

// Codes tell of work that failed before; what is closed is gone all the same.
void CudaStream::close() noexcept {
  for (EventHandle& event : events_) {
    if (event != nullptr) (void)api_->destroy_event(event);
    event = nullptr;
  }
  if (stream_ != nullptr) (void)api_->destroy_stream(stream_);
  stream_ = nullptr;
}

CudaCode CudaStream::record(uint64_t* point) {
  if (has_new_work_) {
    if (const CudaCode code = api_->record_event(event(recorded_ + 1), stream_); code != kCudaOk) return code;
    ++recorded_;
    has_new_work_ = false;
  }
  *point = recorded_;
  return kCudaOk;
}

CudaCode CudaStream::query(uint64_t point) {
  if (point <= done_) return kCudaOk;
  const uint64_t asked = known(point);
  const CudaCode code = api_->query_event(event(asked));
  if (code == kCudaOk) done_ = asked;
  return code;
}

CudaCode CudaStream::make_wait(CudaStream& other, uint64_t point) const {
  if (point <= done_ || &other == this) return kCudaOk;
  const CudaCode code = api_->wait_event(other.stream_, event(known(point)));
  if (code == kCudaOk) other.note_work();
  return code;
}

}  // namespace outrigger::cuda
