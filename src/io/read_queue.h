// ReadQueue: several reads of one source in flight at once, which is what a disk needs to reach its rate.
#ifndef OUTRIGGER_SRC_IO_READ_QUEUE_H_
#define OUTRIGGER_SRC_IO_READ_QUEUE_H_

#include <outrigger/status.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "src/io/byte_source.h"

namespace outrigger {

enum class ReadMethod : uint8_t {
  kAuto,     ///< the ring where there is one, else threads
  kThreads,  ///< a few threads that read one after the other; any source
  kRing,     ///< the kernel's own queue (io_uring); sources whose bytes lie in files
};

struct ReadQueueOptions {
  uint32_t depth = 4;  ///< most reads in flight, 1 to kMostReads
  ReadMethod method = ReadMethod::kAuto;
  /// Memory in which staging lies; lives as long as the queue. The ring reads into it at half the processor time, where the system lets it
  /// lock so many bytes (RLIMIT_MEMLOCK). Empty: not known. Staging elsewhere is as good, only not as cheap.
  std::span<std::byte> staging_area = {};

  /// No disk gains from more: docs/design/0005-reading-the-disk.md.
  static constexpr uint32_t kMostReads = 256;
  /// Errors: kInvalidArgument.
  Status validate() const;
};

/// A read as ByteSource::read_direct takes it. `staging` belongs to the queue until the read is done.
struct ReadRequest {
  uint64_t offset = 0, length = 0;
  std::span<std::byte> staging;
  uint64_t tag = 0;  ///< comes back with the outcome
};

struct ReadDone {
  uint64_t tag = 0;
  Status status;                    ///< as read_direct's
  const std::byte* data = nullptr;  ///< the first byte asked for; null after an error
};

/// Threads: one call at a time, from any thread. After create() no call allocates, but for the text of an error.
class ReadQueue {
 public:
  /// `source` is kept. Errors: kInvalidArgument (options); kUnsupported for kRing where the build, the system or the source has none;
  /// kOutOfMemory when the system refuses threads.
  static Result<std::unique_ptr<ReadQueue>> create(std::shared_ptr<const ByteSource> source, const ReadQueueOptions& options);

  ReadQueue(const ReadQueue&) = delete;
  ReadQueue& operator=(const ReadQueue&) = delete;
  /// Drains.
  virtual ~ReadQueue() = default;

  /// Starts a read; does not wait for the disk. Preconditions: those of read_direct, and in_flight() < depth().
  /// Errors: kInternal when as many are in flight as may be; everything else is the read's own outcome.
  Status submit(const ReadRequest& request);
  /// Waits for one read, whichever is done first. Precondition: in_flight() > 0; else the outcome is kInternal.
  ReadDone wait();
  /// The same without waiting: false, and `done` as it was, if none is done.
  bool poll(ReadDone* done);
  /// Drops all reads in flight: those begun are waited for, since they write to their staging.
  void drain();

  uint32_t in_flight() const { return in_flight_; }
  uint32_t depth() const { return depth_; }
  /// kThreads or kRing.
  virtual ReadMethod method() const = 0;

 protected:
  explicit ReadQueue(uint32_t depth) : depth_(depth) {}

 private:
  virtual void begin(const ReadRequest& request) = 0;
  /// Precondition: something is in flight.
  virtual bool take(ReadDone* done, bool waits) = 0;
  virtual void drop_all() = 0;

  const uint32_t depth_;
  uint32_t in_flight_ = 0;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_IO_READ_QUEUE_H_
