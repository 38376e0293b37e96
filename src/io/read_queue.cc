// ReadQueue: counts what is in flight, and chooses who reads.
#include "src/io/read_queue.h"

#include <new>
#include <utility>

#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/io/read_queue_methods.h"

namespace outrigger {

Status ReadQueueOptions::validate() const {
  if (depth >= 1 && depth <= kMostReads) return {};
  return Status(StatusCode::kInvalidArgument, formatted("reads in flight: got {}, need 1 to {}", depth, kMostReads));
}

Result<std::unique_ptr<ReadQueue>> ReadQueue::create(std::shared_ptr<const ByteSource> source, const ReadQueueOptions& options) {
  OTR_TRY(options.validate());
  try {
    if (options.method == ReadMethod::kThreads) return make_thread_queue(std::move(source), options.depth);
    Result<std::unique_ptr<ReadQueue>> ring = make_ring_queue(source, options.depth, options.staging_area);
    if (ring.is_ok() || options.method == ReadMethod::kRing) return ring;
    return make_thread_queue(std::move(source), options.depth);
  } catch (const std::bad_alloc&) {
    return Status(StatusCode::kOutOfMemory, "out of memory");  // short enough to need none
  }
}

Status ReadQueue::submit(const ReadRequest& request) {
  if (in_flight_ >= depth_) return Status(StatusCode::kInternal, formatted("a read too many: {} are in flight already", in_flight_));
  ++in_flight_;
  begin(request);
  return {};
}

ReadDone ReadQueue::wait() {
  ReadDone done;
  if (in_flight_ == 0) {
    done.status = Status(StatusCode::kInternal, "no read is in flight that could be waited for");
    return done;
  }
  take(&done, true);
  --in_flight_;
  return done;
}

bool ReadQueue::poll(ReadDone* done) {
  if (in_flight_ == 0 || !take(done, false)) return false;
  --in_flight_;
  return true;
}

void ReadQueue::drain() {
  if (in_flight_ > 0) drop_all();
  in_flight_ = 0;
}

ReadDone read_now(const ByteSource& source, const ReadRequest& request) noexcept {
  ReadDone done;
  done.tag = request.tag;
  try {
    Result<const std::byte*> data = source.read_direct(request.offset, request.length, request.staging);
    if (data.is_ok()) {
      done.data = data.value();
    } else {
      done.status = data.status();
    }
  } catch (const std::bad_alloc&) {
    done.status = Status(StatusCode::kOutOfMemory, "out of memory");  // short enough to need none
  } catch (...) {
    done.status = Status(StatusCode::kInternal, "a read threw");
  }
  return done;
}

}  // namespace outrigger
