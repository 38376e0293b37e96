// DraftThread: drafts for some texts while others are verified.
#ifndef OUTRIGGER_SRC_DECODE_DRAFT_THREAD_H_
#define OUTRIGGER_SRC_DECODE_DRAFT_THREAD_H_

#include <outrigger/status.h>

#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

namespace outrigger {

/// Runs one piece of work at a time on a thread of its own, which begins with the first. What the work wrote is there after wait().
/// Threads: that of the one who made it.
class DraftThread {
 public:
  DraftThread() = default;
  /// Waits for what is under way.
  ~DraftThread();
  DraftThread(const DraftThread&) = delete;
  DraftThread& operator=(const DraftThread&) = delete;

  /// Precondition: nothing is under way. Errors: kOutOfMemory where the system refuses a thread; nothing was begun then.
  Status start(std::function<void()> work);
  bool is_busy() const { return is_busy_; }
  /// Until it is done; throws what it threw. Without anything under way it returns at once.
  void wait();

 private:
  void serve();

  bool is_busy_ = false;  ///< to the one who made it
  std::mutex mutex_;
  std::condition_variable changed_;
  std::function<void()> work_;  ///< empty: there is none
  bool is_over_ = false;
  std::exception_ptr thrown_;
  std::thread thread_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DECODE_DRAFT_THREAD_H_
