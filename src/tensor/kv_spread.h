// Keys and values that live on disk: which layers', and which pages of a layer's hold some positions.
#ifndef OUTRIGGER_SRC_TENSOR_KV_SPREAD_H_
#define OUTRIGGER_SRC_TENSOR_KV_SPREAD_H_

#include <cstdint>

namespace outrigger {

// `spilled` of `layers` layers, spread evenly: what is read for one overlaps with computing of those before it. The first of them is as
// late as it can be, since nothing but the step's own beginning hides the reading for it.

/// Spilled layers among the first `layer`; the number of one that is spilled. Precondition: spilled <= layers, layers > 0.
inline constexpr uint32_t kv_spilled_before(uint32_t layers, uint32_t spilled, uint32_t layer) {
  return static_cast<uint32_t>(uint64_t{layer} * spilled / layers);
}
inline constexpr bool is_kv_spilled(uint32_t layers, uint32_t spilled, uint32_t layer) {
  return kv_spilled_before(layers, spilled, layer + 1) > kv_spilled_before(layers, spilled, layer);
}
/// The layer with that number. Precondition: number < spilled.
inline constexpr uint32_t kv_spilled_layer(uint32_t layers, uint32_t spilled, uint32_t number) {
  return static_cast<uint32_t>(((uint64_t{number} + 1) * layers + spilled - 1) / spilled - 1);
}

/// Slots that they pass through: one is filled while another is computed with.
inline constexpr uint32_t kKvSlots = 2;
inline constexpr uint64_t kKvPageBytes = 4096;
inline constexpr uint64_t whole_kv_pages(uint64_t bytes) { return (bytes + kKvPageBytes - 1) / kKvPageBytes * kKvPageBytes; }
/// A request costs a disk as much time as so many bytes (0.1 ms at some GB/s): what lies between two ranges is moved too where it is less.
inline constexpr uint64_t kKvGapBytes = 128 << 10;

/// Reads in flight at once, and the most bytes of each: docs/design/0005-reading-the-disk.md.
inline constexpr uint32_t kKvReads = 4;
inline constexpr uint64_t kKvReadBytes = 1 << 20;

/// A layer's keys and values as they lie in memory and on disk: `count` runs of equal size, each a head's keys or its values, position
/// after position.
struct KvRuns {
  uint32_t count = 1;
  uint64_t stride_bytes = 0;

  bool moves_as_one(uint64_t bytes) const { return count == 1 || stride_bytes - bytes <= kKvGapBytes; }
};

/// The whole pages that hold bytes [begin, end) of each run, as few ranges as are worth a request: on_range(offset, bytes) for each,
/// ascending.
/// Precondition: end <= stride_bytes.
template <typename OnRange>
void for_each_kv_range(const KvRuns& runs, uint64_t begin, uint64_t end, OnRange on_range) {
  if (begin == end) return;
  const auto range = [&](uint64_t from, uint64_t to) {
    const uint64_t first = from / kKvPageBytes * kKvPageBytes;
    on_range(first, whole_kv_pages(to) - first);
  };
  if (runs.moves_as_one(end - begin)) return range(begin, (runs.count - 1) * runs.stride_bytes + end);
  for (uint32_t run = 0; run < runs.count; ++run) range(run * runs.stride_bytes + begin, run * runs.stride_bytes + end);
}

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_TENSOR_KV_SPREAD_H_
