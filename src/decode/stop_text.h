// StopText: finds the first of some stop texts in a stream, holding back what may be the beginning of one.
#ifndef OUTRIGGER_SRC_DECODE_STOP_TEXT_H_
#define OUTRIGGER_SRC_DECODE_STOP_TEXT_H_

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

namespace outrigger {

class StopText {
 public:
  /// Empty texts are ignored.
  explicit StopText(std::vector<std::string> texts) : texts_(std::move(texts)) { std::erase(texts_, std::string()); }

  /// Adds text and returns what can be shown: everything before a stop text, or everything that cannot become one.
  std::string push(std::string_view text) {
    pending_ += text;
    size_t first = std::string::npos;
    for (const std::string& stop : texts_) first = std::min(first, pending_.find(stop));
    if (first != std::string::npos) {
      stopped_ = true;
      return take(first);
    }
    return take(pending_.size() - longest_beginning());
  }

  bool stopped() const { return stopped_; }
  /// What was held back, once no more text comes; empty after a stop.
  std::string finish() { return stopped_ ? std::string() : take(pending_.size()); }

 private:
  // Length of the longest tail of pending_ that begins a stop text.
  size_t longest_beginning() const {
    size_t longest = 0;
    for (const std::string& stop : texts_) {
      for (size_t n = std::min(stop.size() - 1, pending_.size()); n > longest; --n) {
        if (std::string_view(pending_).ends_with(std::string_view(stop).substr(0, n))) longest = n;
      }
    }
    return longest;
  }

  std::string take(size_t count) {
    std::string text = pending_.substr(0, count);
    pending_.erase(0, count);
    return text;
  }

  std::vector<std::string> texts_;
  std::string pending_;
  bool stopped_ = false;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DECODE_STOP_TEXT_H_
