// ExpertArrivals: experts on their way from the file: places in which their rows arrive as the file has them, to be packed by whoever
// computes.
#ifndef OUTRIGGER_SRC_MEMORY_EXPERT_ARRIVALS_H_
#define OUTRIGGER_SRC_MEMORY_EXPERT_ARRIVALS_H_

#include <outrigger/status.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "src/io/byte_source.h"
#include "src/io/read_queue.h"
#include "src/memory/unit_times.h"
#include "src/memory/weight_source.h"
#include "src/tensor/expert_layout.h"

namespace outrigger {

/// Row blocks as the file has them, `WeightSource::block_file_bytes` each; aligned to nothing.
struct ArrivedRows {
  const std::byte* data = nullptr;
  uint32_t blocks = 0;
};

/// A place is free, or holds an expert that was asked for, from request() to release(). Reads go on by themselves once they are with the
/// queue.
/// Threads: one call at a time; rows() any, while the expert is there; bytes_read() any. After create() nothing is allocated, but for the
/// text of an error.
class ExpertArrivals {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;

  /// `memory` has so many `places` of expert_arrival_bytes(layers) each; it and `weights` must outlive the arrivals.
  /// Errors: those of ReadQueue::create; kOutOfMemory.
  static Result<std::unique_ptr<ExpertArrivals>> create(std::shared_ptr<const ByteSource> source, const std::vector<WeightSource>& weights,
                                                        std::vector<ExpertLayer> layers, std::span<std::byte> memory, uint32_t places);

  uint32_t places() const { return static_cast<uint32_t>(places_.size()); }
  /// Where the expert is or will be, or kNone. `layer`: its index among those that have experts.
  uint32_t find(uint32_t layer, uint32_t expert) const;
  bool has_room() const;
  /// Begins to read into a free place, which is returned; never waits for the disk. Precondition: has_room(), and the expert has no place.
  /// Errors: kIo, also when the file has changed. After an error of any call, reset() comes next.
  Result<uint32_t> request(uint32_t layer, uint32_t expert);
  /// Takes note of what has come, and goes on with what waits. Errors: kIo.
  Status poll();
  /// The same, after waiting for one read. Precondition: something is on its way. Errors: kIo.
  Status wait();
  bool has_arrived(uint32_t place) const { return places_[place].missing_reads == 0; }
  const UnitTimes& times(uint32_t place) const { return places_[place].times; }
  /// The expert is no longer wanted here. Reads that have begun keep the place until they are done, which nobody waits for.
  void release(uint32_t place);
  /// Releases every expert for which `is_wanted(layer, expert)` is false.
  template <typename IsWanted>
  void release_unless(IsWanted is_wanted) {
    for (uint32_t i = 0; i < places_.size(); ++i) {
      if (places_[i].state == State::kTaken && !is_wanted(places_[i].layer, places_[i].expert)) release(i);
    }
  }
  /// Drops everything, after an error or a cancelled step; waits for reads that write to memory.
  void reset() noexcept;

  /// Row blocks of the expert's part from `block` on, as far as they came with one read. Precondition: the expert has arrived.
  ArrivedRows rows(uint32_t place, uint32_t part, uint32_t block) const;

  /// Of the file, that were asked of the disk since it was made.
  uint64_t bytes_read() const { return bytes_read_.load(std::memory_order_relaxed); }

 private:
  enum class State : uint8_t { kFree, kTaken, kReleased };  // the last: until its reads are done
  struct Place {
    State state = State::kFree;
    uint32_t layer = 0, expert = 0;
    uint32_t missing_reads = 0;          // that have not come
    uint32_t next_part = 0, next_block = 0;  // of the first read that has not begun
    UnitTimes times;
  };

  ExpertArrivals(std::shared_ptr<const ByteSource> source, const std::vector<WeightSource>& weights, std::vector<ExpertLayer> layers,
                 std::span<std::byte> memory, uint32_t places);
  Status start_reads();
  Status start_read(uint32_t place);
  Status take(const ReadDone& done);
  uint32_t read_number(const ExpertLayer& layer, uint32_t part, uint32_t block) const;
  void free_if_done(Place& place);

  const std::shared_ptr<const ByteSource> source_;
  const std::vector<WeightSource>& weights_;
  const std::vector<ExpertLayer> layers_;
  std::byte* const memory_;
  const uint64_t place_bytes_;
  uint32_t most_reads_ = 0;              ///< of one expert
  std::unique_ptr<ReadQueue> queue_;
  std::vector<Place> places_;
  std::vector<const std::byte*> data_;   ///< per place and read: where its first byte came to lie
  std::vector<uint32_t> waiting_;        ///< places with reads that have not begun, in the order in which they were requested
  std::atomic<uint64_t> bytes_read_{0};
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MEMORY_EXPERT_ARRIVALS_H_
