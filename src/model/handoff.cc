// Turns of host and device.
#include "src/model/handoff.h"

#include <algorithm>
#include <thread>

namespace outrigger {
namespace {

using Clock = std::chrono::steady_clock;

// A device that is only on its way from one window to the next is there within some microseconds; one that has layers to compute is not,
// and whoever else needs the processor may have it.
constexpr int kLooks = 200;
constexpr std::chrono::microseconds kLooking{2000}, kNap{50};

// A step has a few handoffs a layer: from so many before the last number on it begins anew, with words that have none.
constexpr uint32_t kLastNumber = UINT32_MAX - (1u << 20);

}  // namespace

Handoff::Handoff(std::byte* memory, const HandoffSize& size, std::chrono::nanoseconds device_patience,
                 std::chrono::nanoseconds host_patience)
    : closed_(reinterpret_cast<HandoffWord*>(memory)),
      to_host_(closed_ + kHandoffFlagBytes / sizeof(HandoffWord)),
      to_device_(to_host_ + size.to_host * kHandoffTokens),
      end_(to_device_ + size.to_device * kHandoffTokens),
      device_patience_(device_patience),
      host_patience_(host_patience) {}

void Handoff::begin() {
  store_word(closed_, 0);
  last_turn_ns_.store(0, std::memory_order_relaxed);
  device_number_ = host_number_ = std::max(device_number_, host_number_);
  if (device_number_ < kLastNumber) return;
  for (HandoffWord* word = to_host_; word < end_; ++word) store_word(word, 0);
  device_number_ = host_number_ = 0;
}

// What timed out stays so: it says why.
void Handoff::close() noexcept {
  HandoffWord open = 0;
  (void)std::atomic_ref(*closed_).compare_exchange_strong(open, kHandoffClosed, std::memory_order_relaxed);
}

SendArgs Handoff::send(const float* src, size_t count) { return {src, to_host_, count, ++device_number_}; }

ReceiveArgs Handoff::receive(float* dst, size_t first, size_t count, bool accumulate) const {
  return {to_device_ + first, closed_, dst, count, accumulate, device_number_, static_cast<uint64_t>(device_patience_.count())};
}

Status Handoff::take(float* dst, size_t count, const CancelToken& cancel) {
  ++host_number_;
  const Clock::time_point begin = Clock::now();
  size_t next = 0;
  for (int looks = 0;; ++looks) {
    next = receive_words(to_host_, next, count, host_number_, [dst](size_t i, float value) { dst[i] = value; });
    if (next == count) break;
    if (looks < kLooks) continue;
    if (load_word(closed_) != 0) return Status(StatusCode::kDevice, "device: what it hands over to the host did not come");
    if (cancel.is_cancelled()) return Status(StatusCode::kCancelled, "the step was cancelled");
    const Clock::duration waited = Clock::now() - begin;
    if (waited > host_patience_) return Status(StatusCode::kDevice, "device: what it hands over to the host took too long");
    if (waited < kLooking) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(kNap);
    }
  }
  note_turn();
  return {};
}

void Handoff::note_turn() {
  last_turn_ns_.store(std::chrono::nanoseconds(Clock::now().time_since_epoch()).count(), std::memory_order_relaxed);
}

void Handoff::give(const float* src, size_t first, size_t begin, size_t end) {
  send_words(src, to_device_ + first, begin, end, host_number_);
  note_turn();
}

}  // namespace outrigger
