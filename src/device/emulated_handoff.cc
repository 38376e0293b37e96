// The emulated device's handoffs: words over its link, and the wait for the host's.
#include <algorithm>

#include "src/base/macros.h"
#include "src/device/emulated_backend.h"
#include "src/device/op_check.h"
#include "src/device/op_run.h"

namespace outrigger {
namespace {

using Clock = std::chrono::steady_clock;

}  // namespace

// The words take the link as a copy of as many bytes would: what is sent is there at its end, what is received is read from when it is.
Status EmulatedBackend::hand_over(Lock& lock, const WorkQueues::Begun& begun, WorkEngine engine) {
  DeviceOp op = begun.work->op;
  OTR_TRY(translate_op(arena_->table(), pinned_, 0, &op));
  const auto* const received = std::get_if<ReceiveArgs>(&op);
  const uint64_t bytes = (received != nullptr ? received->count : std::get<SendArgs>(op).count) * sizeof(HandoffWord);
  Clock::time_point ready = begun.ready;
  if (received != nullptr) {
    if (!wait_for_words(lock, *received)) return {};
    ready = std::max(ready, Clock::now());
  }
  const Clock::time_point end = links_[received != nullptr ? 0 : 1].next_end(ready, bytes);
  // Being woken takes longer than most words are under way.
  constexpr auto kWakingUp = std::chrono::microseconds(50);
  if (!sleep_until(lock, engine, end - kWakingUp)) return {};
  lock.unlock();
  while (Clock::now() < end) std::this_thread::yield();
  (engine == WorkEngine::kCompute ? team_ : alone_)->run([&op](const TeamMember& member) { run_op(op, member); });
  lock.lock();
  queues_.finish(begun.stream, end);
  return {};
}

// Until the words are there or will never be; false when nothing is to be done any more. It looks without pause for a time in which a host
// that has a processor answers, and then now and then, since the host may need this one.
bool EmulatedBackend::wait_for_words(Lock& lock, const ReceiveArgs& args) {
  constexpr auto kLooking = std::chrono::microseconds(50), kNap = std::chrono::microseconds(20);
  const Clock::time_point begin = Clock::now(), deadline = begin + std::chrono::nanoseconds(args.patience_ns);
  for (size_t next = 0; !is_stopping_ && failure_.is_ok();) {
    lock.unlock();
    next = receive_words(args.words, next, args.count, static_cast<uint32_t>(args.number), [](size_t, float) {});
    const Clock::time_point now = Clock::now();
    bool is_over = next == args.count || load_word(args.closed) != 0;
    if (!is_over && now > deadline) {
      store_word(args.closed, kHandoffTimedOut);
      is_over = true;
    }
    if (!is_over && now - begin < kLooking) {
      std::this_thread::yield();
    } else if (!is_over) {
      std::this_thread::sleep_for(kNap);
    }
    lock.lock();
    if (is_over) return true;
  }
  return false;
}

}  // namespace outrigger
