// The two kinds of ReadQueue, for ReadQueue::create and the tests of each.
#ifndef OUTRIGGER_SRC_IO_READ_QUEUE_METHODS_H_
#define OUTRIGGER_SRC_IO_READ_QUEUE_METHODS_H_

#include "src/io/read_queue.h"

namespace outrigger {

/// Errors: kOutOfMemory when the system refuses threads.
Result<std::unique_ptr<ReadQueue>> make_thread_queue(std::shared_ptr<const ByteSource> source, uint32_t depth);

/// Errors: kUnsupported without io_uring in the build or in the system, and for a source that has no descriptors.
Result<std::unique_ptr<ReadQueue>> make_ring_queue(std::shared_ptr<const ByteSource> source, uint32_t depth,
                                                   std::span<std::byte> staging_area);

/// What read_direct makes of a request; never throws.
ReadDone read_now(const ByteSource& source, const ReadRequest& request) noexcept;

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_IO_READ_QUEUE_METHODS_H_
