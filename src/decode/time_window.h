// TimeWindow: the latest times of something, and what they say of it.
#ifndef OUTRIGGER_SRC_DECODE_TIME_WINDOW_H_
#define OUTRIGGER_SRC_DECODE_TIME_WINDOW_H_

#include <algorithm>
#include <array>
#include <cstddef>

namespace outrigger {

/// Holds 16 of them. What disturbs a step makes it longer, on a busy machine half of the steps or more, by several times: so what it takes
/// is told from the shorter ones. Allocates nothing.
class TimeWindow {
 public:
  static constexpr size_t kMost = 16;

  void add(double time) {
    if (size_ == kMost) std::copy(times_.begin() + 1, times_.end(), times_.begin()), --size_;
    times_[size_++] = time;
  }
  void clear() { size_ = 0; }
  size_t size() const { return size_; }
  double last() const { return times_[size_ - 1]; }
  /// The lower quartile, of up to four the least. Precondition: not empty, as below.
  double low() const { return ranked(0, size_, (size_ - 1) / 4); }
  double least() const { return ranked(0, size_, 0); }
  double greatest() const { return ranked(0, size_, size_ - 1); }

  /// Whether the latest three say something else than those before: all of them a tenth above the upper quartile of those, or two of them
  /// as far below the lower one. If so only the three are kept.
  bool keep_after_leap() {
    constexpr size_t kNewest = 3, kLeastBefore = 3;
    constexpr double kLeastLeap = 1.1;
    if (size_ < kNewest + kLeastBefore) return false;
    const size_t before = size_ - kNewest;
    const bool is_up = ranked(before, size_, 0) > kLeastLeap * ranked(0, before, before - 1 - (before - 1) / 4);
    const bool is_down = kLeastLeap * ranked(before, size_, 1) < ranked(0, before, (before - 1) / 4);
    if (!is_up && !is_down) return false;
    std::copy(times_.begin() + static_cast<std::ptrdiff_t>(before), times_.begin() + static_cast<std::ptrdiff_t>(size_), times_.begin());
    size_ = kNewest;
    return true;
  }

 private:
  // Of the times from `begin` to `end` the one that `rank` others are below.
  double ranked(size_t begin, size_t end, size_t rank) const {
    std::array<double, kMost> sorted;
    const auto last =
        std::copy(times_.begin() + static_cast<std::ptrdiff_t>(begin), times_.begin() + static_cast<std::ptrdiff_t>(end), sorted.begin());
    const auto place = sorted.begin() + static_cast<std::ptrdiff_t>(rank);
    std::nth_element(sorted.begin(), place, last);
    return *place;
  }

  std::array<double, kMost> times_;
  size_t size_ = 0;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DECODE_TIME_WINDOW_H_
