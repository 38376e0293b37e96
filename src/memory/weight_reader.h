// WeightReader: row blocks on their way from the file into memory, several reads at once, packed as they arrive.
#ifndef OUTRIGGER_SRC_MEMORY_WEIGHT_READER_H_
#define OUTRIGGER_SRC_MEMORY_WEIGHT_READER_H_

#include <outrigger/status.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "src/io/byte_source.h"
#include "src/io/read_queue.h"
#include "src/memory/weight_source.h"

namespace outrigger {

/// Row blocks [first_block, first_block + blocks) of a matrix, all of one expert, and where they are wanted.
struct WeightPiece {
  uint32_t matrix = 0;
  uint64_t first_block = 0, blocks = 0;
  std::byte* dst = nullptr;
};

struct WeightReaderOptions {
  uint32_t depth = 1;            ///< most reads in flight
  uint32_t jobs = 0;             ///< numbers that callers may use
  uint32_t most_pieces = 0;      ///< most that wait at once
};

/// What belongs together has a job's number: an expert. Jobs are read in the order in which they were added; a caller waits
/// for one, and whatever arrives meanwhile is taken care of.
/// Threads: one call at a time; bytes_read() any. After create() nothing is allocated, but for the text of an error.
class WeightReader {
 public:
  /// `weights` must outlive the reader. `staging` has `depth` buffers of equal size, each whole pages and enough for a row block of every matrix that is added.
  /// Errors: those of ReadQueue::create; kOutOfMemory.
  static Result<std::unique_ptr<WeightReader>> create(std::shared_ptr<const ByteSource> source, const std::vector<WeightSource>& weights,
                                                      std::span<std::byte> staging, const WeightReaderOptions& options);

  /// Puts the piece behind those that wait, and starts as many reads as may be in flight. Never waits for the disk.
  /// Errors: kIo (the file has changed). After an error of any call, reset() comes next.
  Status add(uint32_t job, const WeightPiece& piece);
  /// Waits until nothing of the job is missing any more. Errors: kIo.
  Status finish(uint32_t job);
  /// Takes care of one read, waiting for it; for jobs nobody waits for yet. Precondition: !is_idle(). Errors: kIo.
  Status advance();
  bool is_done(uint32_t job) const { return missing_blocks_[job] == 0; }
  bool is_idle() const { return waiting_count_ == 0 && queue_->in_flight() == 0; }
  /// Takes back what of the job has not been asked of the disk yet; waits for the rest.
  Status abandon(uint32_t job);

  /// Drops everything, after an error or a cancelled step; waits for reads that write to memory.
  void reset() noexcept;

  /// Of the file, since it was made.
  uint64_t bytes_read() const { return bytes_read_.load(std::memory_order_relaxed); }

 private:
  struct Waiting {
    uint32_t job = 0;
    WeightPiece piece;
  };

  WeightReader(std::shared_ptr<const ByteSource> source, const std::vector<WeightSource>& weights, std::span<std::byte> staging,
               const WeightReaderOptions& options, std::unique_ptr<ReadQueue> queue);
  Status start_reads();
  uint64_t blocks_at_once(const WeightSource& weight, uint64_t most) const;

  const std::shared_ptr<const ByteSource> source_;
  const std::vector<WeightSource>& weights_;
  const std::span<std::byte> staging_;
  const uint64_t buffer_bytes_;
  std::unique_ptr<ReadQueue> queue_;
  std::vector<Waiting> waiting_;         ///< a ring: the pieces that still have blocks to be asked for
  size_t first_waiting_ = 0, waiting_count_ = 0;
  std::vector<Waiting> reading_;         ///< per staging buffer
  std::vector<uint32_t> free_buffers_;
  std::vector<uint64_t> missing_blocks_; ///< per job
  std::atomic<uint64_t> bytes_read_{0};
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MEMORY_WEIGHT_READER_H_
