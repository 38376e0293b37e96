// ReadQueue by threads, each of which reads as read_direct does.
#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/io/read_queue_methods.h"

namespace outrigger {
namespace {

// No disk gains from more: docs/design/0005-reading-the-disk.md. Reads beyond wait for one of them.
constexpr uint32_t kMostThreads = 4;

/// First in, first out, of at most so many slots.
class SlotFifo {
 public:
  explicit SlotFifo(uint32_t capacity) : slots_(capacity) {}
  bool is_empty() const { return count_ == 0; }
  void push(uint32_t slot) { slots_[(first_ + count_++) % slots_.size()] = slot; }
  uint32_t pop() {
    --count_;
    return slots_[std::exchange(first_, (first_ + 1) % slots_.size())];
  }

 private:
  std::vector<uint32_t> slots_;
  size_t first_ = 0, count_ = 0;
};

class ThreadQueue final : public ReadQueue {
 public:
  ThreadQueue(std::shared_ptr<const ByteSource> source, uint32_t depth)
      : ReadQueue(depth), source_(std::move(source)), requests_(depth), outcomes_(depth), free_(depth), waiting_(depth), done_(depth) {
    for (uint32_t slot = 0; slot < depth; ++slot) free_.push(slot);
  }
  ~ThreadQueue() override;
  Status start();
  ReadMethod method() const override { return ReadMethod::kThreads; }

 private:
  void begin(const ReadRequest& request) override;
  bool take(ReadDone* done, bool waits) override;
  void drop_all() override;
  void serve() noexcept;

  const std::shared_ptr<const ByteSource> source_;
  std::vector<std::thread> readers_;
  std::mutex mutex_;  // guards what follows; a slot's request and outcome belong to its reader while it is in no list
  std::condition_variable work_, finished_;
  std::vector<ReadRequest> requests_;
  std::vector<ReadDone> outcomes_;
  SlotFifo free_, waiting_, done_;
  uint32_t begun_ = 0;
  bool stopping_ = false;
};

Status ThreadQueue::start() {
  const uint32_t threads = std::min(depth(), kMostThreads);
  try {
    readers_.reserve(threads);
    for (uint32_t i = 0; i < threads; ++i) readers_.emplace_back([this] { serve(); });
    return {};
  } catch (const std::exception& refused) {
    return Status(StatusCode::kOutOfMemory, formatted("the system refused one of {} reading threads ({})", threads, refused.what()));
  }
}

ThreadQueue::~ThreadQueue() {
  drain();
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_.notify_all();
  for (std::thread& reader : readers_) reader.join();
}

void ThreadQueue::serve() noexcept {
  std::unique_lock lock(mutex_);
  for (;;) {
    work_.wait(lock, [this] { return stopping_ || !waiting_.is_empty(); });
    if (stopping_) return;
    const uint32_t slot = waiting_.pop();
    ++begun_;
    lock.unlock();
    outcomes_[slot] = read_now(*source_, requests_[slot]);
    lock.lock();
    --begun_;
    done_.push(slot);
    finished_.notify_one();
  }
}

void ThreadQueue::begin(const ReadRequest& request) {
  {
    const std::lock_guard lock(mutex_);
    const uint32_t slot = free_.pop();
    requests_[slot] = request;
    waiting_.push(slot);
  }
  work_.notify_one();
}

bool ThreadQueue::take(ReadDone* done, bool waits) {
  std::unique_lock lock(mutex_);
  if (waits) finished_.wait(lock, [this] { return !done_.is_empty(); });
  if (done_.is_empty()) return false;
  const uint32_t slot = done_.pop();
  *done = std::exchange(outcomes_[slot], ReadDone());
  free_.push(slot);
  return true;
}

void ThreadQueue::drop_all() {
  std::unique_lock lock(mutex_);
  while (!waiting_.is_empty()) free_.push(waiting_.pop());
  finished_.wait(lock, [this] { return begun_ == 0; });
  while (!done_.is_empty()) free_.push(done_.pop());
}

}  // namespace

Result<std::unique_ptr<ReadQueue>> make_thread_queue(std::shared_ptr<const ByteSource> source, uint32_t depth) {
  auto queue = std::make_unique<ThreadQueue>(std::move(source), depth);
  OTR_TRY(queue->start());
  return std::unique_ptr<ReadQueue>(std::move(queue));
}

}  // namespace outrigger
