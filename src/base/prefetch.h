// Bytes on their way to a cache before they are needed.
#ifndef OUTRIGGER_SRC_BASE_PREFETCH_H_
#define OUTRIGGER_SRC_BASE_PREFETCH_H_

#include <cstddef>
#include <cstdint>

namespace outrigger {

/// Asks for the bytes in the order in which they lie. Rows are packed sixteen at a time, line by line across them, which no hardware
/// foresees: what the disk has just written would be waited for at each line.
inline void bring_near(const std::byte* bytes, uint64_t size) {
  constexpr uint64_t kCacheLine = 64;
  for (uint64_t i = 0; i < size; i += kCacheLine) __builtin_prefetch(bytes + i, 0, 2);
}

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_BASE_PREFETCH_H_
