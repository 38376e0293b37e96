// TraceRing: the latest of what is recorded, in room that is allocated once.
#ifndef OUTRIGGER_SRC_GRAPH_TRACE_RING_H_
#define OUTRIGGER_SRC_GRAPH_TRACE_RING_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace outrigger {

/// `entries` is resized before the first push(). On a cache line of its own: lanes write at the same time.
template <typename T>
struct alignas(64) TraceRing {
  std::vector<T> entries;
  size_t next = 0;
  uint64_t count = 0, dropped = 0;

  T& push(const T& entry) {
    T& place = entries[next];
    place = entry;
    next = next + 1 == entries.size() ? 0 : next + 1;
    if (count == entries.size()) {
      ++dropped;
    } else {
      ++count;
    }
    return place;
  }
  /// The i-th of those that are kept, oldest first.
  const T& at(uint64_t i) const { return entries[(next + entries.size() - count + i) % entries.size()]; }
  std::vector<T> kept() const {
    std::vector<T> all;
    all.reserve(count);
    for (uint64_t i = 0; i < count; ++i) all.push_back(at(i));
    return all;
  }
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_GRAPH_TRACE_RING_H_
