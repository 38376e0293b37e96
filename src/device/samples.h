// Timed repetitions and what is made of them: how every rate of a machine profile is made.
#ifndef OUTRIGGER_SRC_DEVICE_SAMPLES_H_
#define OUTRIGGER_SRC_DEVICE_SAMPLES_H_

#include <outrigger/machine_profile.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

namespace outrigger {

/// Work per second, one sample a repetition.
class Samples {
 public:
  /// Runs work() once to warm up, then until `seconds` are over, at least five times; each run does `amount` bytes or operations.
  /// prepare() comes before each of these and is not timed.
  template <typename Work, typename Prepare = void (*)()>
  static Samples collect(double amount, double seconds, Work work, Prepare prepare = [] {}) {
    Samples samples;
    const auto now = [] { return std::chrono::steady_clock::now(); };
    const auto since = [&now](auto start) { return std::chrono::duration<double>(now() - start).count(); };
    const auto begin = now();
    work();
    do {
      prepare();
      const auto start = now();
      work();
      samples.add(amount, since(start));
    } while (samples.per_s_.size() < kLeast || since(begin) < seconds);
    return samples;
  }

  // A clock that did not move counts as its smallest step.
  void add(double amount, double seconds) { per_s_.push_back(amount / std::max(seconds, 1e-9)); }
  size_t count() const { return per_s_.size(); }

  /// The upper quartile and the spread. Whoever else uses the machine only ever slows samples down, and a profile is kept for long; the
  /// very fastest ones are a matter of luck with caches and clocks. Precondition: at least one sample.
  Rate rate(std::string how) const {
    std::vector<double> sorted = per_s_;
    std::sort(sorted.begin(), sorted.end());
    const double median = sorted[sorted.size() / 2], upper = sorted[(sorted.size() - 1) * 3 / 4];
    return {upper, (sorted.back() - sorted.front()) / median, std::move(how)};
  }
  double fastest() const { return *std::max_element(per_s_.begin(), per_s_.end()); }

 private:
  static constexpr size_t kLeast = 5;
  std::vector<double> per_s_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DEVICE_SAMPLES_H_
