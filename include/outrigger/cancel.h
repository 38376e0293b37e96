// How a long call is followed and stopped: CancelToken, and Progress.
#ifndef OUTRIGGER_CANCEL_H_
#define OUTRIGGER_CANCEL_H_

#include <atomic>
#include <functional>
#include <memory>

namespace outrigger {

/// A flag that its copies share. A call that was given one looks at it between pieces of work (at most some milliseconds apart) and
/// then returns kCancelled, leaving its objects as they were after the last complete token.
/// Threads: any number may cancel and look at once. cancel() is safe in a signal handler.
class CancelToken {
 public:
  CancelToken() : flag_(std::make_shared<std::atomic<bool>>(false)) {}

  void cancel() const noexcept { flag_->store(true, std::memory_order_relaxed); }
  bool is_cancelled() const noexcept { return flag_->load(std::memory_order_relaxed); }
  /// Makes the token usable again.
  void reset() const noexcept { flag_->store(false, std::memory_order_relaxed); }

 private:
  std::shared_ptr<std::atomic<bool>> flag_;
};

/// Share done, 0 to 1, of a long call. Called on the thread that made the call; return false to cancel it.
using Progress = std::function<bool(double share)>;

}  // namespace outrigger

#endif  // OUTRIGGER_CANCEL_H_
