// MemoryTally: additions and subtractions of what would be held, and the most that it came to.
#ifndef OUTRIGGER_SRC_COMPRESS_MEMORY_TALLY_H_
#define OUTRIGGER_SRC_COMPRESS_MEMORY_TALLY_H_

#include <cstdint>
#include <utility>

#include "src/compress/compress_need.h"
#include "src/memory/leased_vector.h"

namespace outrigger {

/// Threads: one.
class MemoryTally {
 public:
  /// Bytes that are held until it dies. Movable; must not outlive its tally.
  class Held {
   public:
    Held() = default;
    Held(MemoryTally* tally, MemoryUse use, uint64_t bytes) : tally_(tally), use_(use), bytes_(bytes) {}
    Held(Held&& other) noexcept : tally_(std::exchange(other.tally_, nullptr)), use_(other.use_), bytes_(other.bytes_) {}
    Held& operator=(Held&& other) noexcept {
      std::swap(tally_, other.tally_);
      std::swap(use_, other.use_);
      std::swap(bytes_, other.bytes_);
      return *this;
    }
    ~Held() {
      if (tally_ != nullptr) tally_->now_.bytes -= bytes_, tally_->now_.of_use[static_cast<size_t>(use_)] -= bytes_;
    }

   private:
    MemoryTally* tally_ = nullptr;
    MemoryUse use_ = MemoryUse::kOther;
    uint64_t bytes_ = 0;
  };

  /// Just so many.
  [[nodiscard]] Held claim(MemoryUse use, uint64_t bytes) {
    now_.bytes += bytes;
    now_.of_use[static_cast<size_t>(use)] += bytes;
    if (now_.bytes > most_.bytes) most_ = now_;
    return Held(this, use, bytes);
  }
  /// Of a LeasedVector.
  [[nodiscard]] Held bytes(MemoryUse use, uint64_t count) { return claim(use, leased_bytes(use, count)); }
  [[nodiscard]] Held floats(MemoryUse use, uint64_t count) { return bytes(use, count * sizeof(float)); }
  [[nodiscard]] Held doubles(MemoryUse use, uint64_t count) { return bytes(use, count * sizeof(double)); }

  const CompressNeed& most() const { return most_; }

 private:
  CompressNeed now_, most_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_COMPRESS_MEMORY_TALLY_H_
