// TimeWindow: the latest times of something, by their median.
#ifndef OUTRIGGER_SRC_DECODE_TIME_WINDOW_H_
#define OUTRIGGER_SRC_DECODE_TIME_WINDOW_H_

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>

namespace outrigger {

/// Holds 16 of them. Allocates nothing.
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
  /// Of an even number the lower one of the two: of two times, one of which is a hiccup, it is the other. Precondition: not empty.
  double median() const { return median_of(0, size_); }
  double least() const { return *std::min_element(times_.begin(), times_.begin() + static_cast<std::ptrdiff_t>(size_)); }

  /// Whether the latest three say something else than those before: by a tenth at least, and by more than these scatter. If so only the
  /// three are kept.
  bool keep_after_leap() {
    constexpr size_t kNewest = 3, kLeastBefore = 3;
    if (size_ < kNewest + kLeastBefore) return false;
    const size_t before = size_ - kNewest;
    const double then = median_of(0, before), now = median_of(before, size_);
    // Three times the median deviation is about twice the standard one, or three and a half times that of a median of three.
    if (std::abs(now - then) <= std::max(kLeastLeap * then, 3 * deviation(then, before))) return false;
    std::copy(times_.begin() + static_cast<std::ptrdiff_t>(before), times_.begin() + static_cast<std::ptrdiff_t>(size_), times_.begin());
    size_ = kNewest;
    return true;
  }

 private:
  static constexpr double kLeastLeap = 0.1;

  double median_of(size_t begin, size_t end) const {
    std::array<double, kMost> sorted;
    const auto last =
        std::copy(times_.begin() + static_cast<std::ptrdiff_t>(begin), times_.begin() + static_cast<std::ptrdiff_t>(end), sorted.begin());
    const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>((end - begin - 1) / 2);
    std::nth_element(sorted.begin(), middle, last);
    return *middle;
  }
  double deviation(double from, size_t count) const {
    TimeWindow distances;
    for (size_t i = 0; i < count; ++i) distances.add(std::abs(times_[i] - from));
    return distances.median();
  }

  std::array<double, kMost> times_;
  size_t size_ = 0;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DECODE_TIME_WINDOW_H_
