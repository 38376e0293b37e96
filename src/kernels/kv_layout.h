// The key-value cache of one layer: what it stores, and where.
#ifndef OUTRIGGER_SRC_KERNELS_KV_LAYOUT_H_
#define OUTRIGGER_SRC_KERNELS_KV_LAYOUT_H_

#include <outrigger/step_shape.h>

#include <cstddef>
#include <cstdint>

namespace outrigger {

// Keys and values are two arrays of the same size. Each is [kv_heads][capacity / 16] blocks of 16 positions of one head:
//   keys    [head_dim][16]: the positions are interleaved, so that a vector lane is a position and a score needs no horizontal sum
//   values  [16][head_dim]
// of float16 bits or floats. So the first n positions of a head are its first kv_positions(n) / 16 blocks: that is what a copy has to take.

/// Positions of a block; `capacity` is a multiple of it.
inline constexpr size_t kKvInterleave = 16;
/// `positions` rounded up to whole blocks: for choosing the capacity and for copying a prefix.
inline constexpr size_t kv_positions(size_t positions) { return (positions + kKvInterleave - 1) / kKvInterleave * kKvInterleave; }

/// Bytes of one block, keys or values.
inline constexpr uint64_t kv_block_bytes(KvType type, size_t head_dim) {
  return uint64_t{kKvInterleave} * head_dim * (type == KvType::kF32 ? sizeof(float) : sizeof(uint16_t));
}

/// Where a head's blocks begin, from the layer's first byte, keys or values.
inline constexpr uint64_t kv_head_offset(KvType type, size_t head_dim, size_t capacity, size_t kv_head) {
  return kv_head * (capacity / kKvInterleave) * kv_block_bytes(type, head_dim);
}

/// Index of element d of a position's key, counted in elements from its head's first block; a value's is position * head_dim + d.
inline constexpr size_t key_index(size_t position, size_t d, size_t head_dim) {
  return (position / kKvInterleave * head_dim + d) * kKvInterleave + position % kKvInterleave;
}

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_KV_LAYOUT_H_
