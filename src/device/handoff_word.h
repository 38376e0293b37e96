// Handoff words: how a host and a device pass numbers to each other in the middle of a step.
#ifndef OUTRIGGER_SRC_DEVICE_HANDOFF_WORD_H_
#define OUTRIGGER_SRC_DEVICE_HANDOFF_WORD_H_

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace outrigger {

/// A float and the number of the handoff that it belongs to, in eight aligned bytes, which neither side ever sees half of. So no word needs
/// another to say that it is there: nothing has to be ordered, in whichever order the link brings them. A number is used once.
/// @source NCCL's LL protocol, which has two such words in one store
using HandoffWord = uint64_t;

inline HandoffWord handoff_word(float value, uint32_t number) { return uint64_t{number} << 32 | std::bit_cast<uint32_t>(value); }
inline uint32_t handoff_number(HandoffWord word) { return static_cast<uint32_t>(word >> 32); }
inline float handoff_value(HandoffWord word) { return std::bit_cast<float>(static_cast<uint32_t>(word)); }

/// What ReceiveArgs::closed may hold besides 0: who waited for the host gave up, or somebody else did and nobody need wait any more.
inline constexpr HandoffWord kHandoffTimedOut = 1, kHandoffClosed = 2;

inline HandoffWord load_word(const HandoffWord* word) {
  return std::atomic_ref(*const_cast<HandoffWord*>(word)).load(std::memory_order_relaxed);
}
inline void store_word(HandoffWord* word, HandoffWord value) { std::atomic_ref(*word).store(value, std::memory_order_relaxed); }

/// Floats [begin, end). Threads: any, each its own.
inline void send_words(const float* src, HandoffWord* words, size_t begin, size_t end, uint32_t number) {
  for (size_t i = begin; i < end; ++i) store_word(words + i, handoff_word(src[i], number));
}

/// Calls put(i, value) for i from `begin` on, as far as the words are there; returns the first that is not, or `end`.
template <typename Put>
size_t receive_words(const HandoffWord* words, size_t begin, size_t end, uint32_t number, Put put) {
  for (; begin < end; ++begin) {
    const HandoffWord word = load_word(words + begin);
    if (handoff_number(word) != number) break;
    put(begin, handoff_value(word));
  }
  return begin;
}

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DEVICE_HANDOFF_WORD_H_
