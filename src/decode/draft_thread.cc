// Work for one thread, handed over and waited for.
#include "src/decode/draft_thread.h"

#include <system_error>
#include <utility>

#include "src/base/blocked_signals.h"

namespace outrigger {

DraftThread::~DraftThread() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    is_over_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

Status DraftThread::start(std::function<void()> work) {
  if (!thread_.joinable()) {
    try {
      const BlockedSignals blocked;
      thread_ = std::thread([this] { serve(); });
    } catch (const std::system_error&) {
      return Status(StatusCode::kOutOfMemory, "the system refused a thread to draft on");
    }
  }
  {
    const std::lock_guard lock(mutex_);
    work_ = std::move(work);
  }
  is_busy_ = true;
  changed_.notify_all();
  return {};
}

void DraftThread::wait() {
  if (!is_busy_) return;
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return !work_; });
  is_busy_ = false;
  if (thrown_) std::rethrow_exception(std::exchange(thrown_, nullptr));
}

void DraftThread::serve() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return work_ || is_over_; });
    if (!work_) return;
    lock.unlock();
    std::exception_ptr thrown;
    try {
      work_();
    } catch (...) {
      thrown = std::current_exception();
    }
    lock.lock();
    thrown_ = thrown;
    work_ = nullptr;
    changed_.notify_all();
  }
}

}  // namespace outrigger
