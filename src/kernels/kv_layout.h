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
// of float16 bits or floats. For q8_0 an element is an int8 code, and a group of 32 elements of a position has a float16 scale. A block is
// then
//   scales [head_dim / 32][16], then codes: keys [head_dim / 2][16][2], two neighbouring elements side by side; values [16][head_dim]
// In all of them the first n positions of a head are its first kv_positions(n) / 16 blocks: that is what a copy has to take.

/// Positions of a block; `capacity` is a multiple of it.
inline constexpr size_t kKvInterleave = 16;
/// `positions` rounded up to whole blocks: for choosing the capacity and for copying a prefix.
inline constexpr size_t kv_positions(size_t positions) { return (positions + kKvInterleave - 1) / kKvInterleave * kKvInterleave; }

/// Elements of a head that share a scale in q8_0; head_dim is a multiple of it there.
inline constexpr size_t kKvGroup = 32;
inline constexpr bool kv_type_fits(KvType type, size_t head_dim) { return type != KvType::kQ8_0 || head_dim % kKvGroup == 0; }

/// Bytes of one block, keys or values. The scales of q8_0 are the first head_dim of them.
inline constexpr uint64_t q8_block_bytes(size_t head_dim) { return uint64_t{kKvInterleave + 1} * head_dim; }
inline constexpr uint64_t kv_block_bytes(KvType type, size_t head_dim) {
  if (type == KvType::kQ8_0) return q8_block_bytes(head_dim);
  return uint64_t{kKvInterleave} * head_dim * (type == KvType::kF32 ? sizeof(float) : sizeof(uint16_t));
}

/// Where a head's blocks begin, from the layer's first byte, keys or values.
inline constexpr uint64_t kv_head_offset(KvType type, size_t head_dim, size_t capacity, size_t kv_head) {
  return kv_head * (capacity / kKvInterleave) * kv_block_bytes(type, head_dim);
}

/// float16 and float32: index of element d of a position's key, counted in elements from its head's first block; a value's is position *
/// head_dim + d.
inline constexpr size_t key_index(size_t position, size_t d, size_t head_dim) {
  return (position / kKvInterleave * head_dim + d) * kKvInterleave + position % kKvInterleave;
}

/// q8_0: where in its block element d of the position's key and value lie, and the scale of its group, in bytes.
inline constexpr size_t q8_key_offset(size_t position, size_t d, size_t head_dim) {
  return head_dim + (d / 2 * kKvInterleave + position % kKvInterleave) * 2 + d % 2;
}
inline constexpr size_t q8_value_offset(size_t position, size_t d, size_t head_dim) {
  return head_dim + position % kKvInterleave * head_dim + d;
}
inline constexpr size_t q8_scale_offset(size_t position, size_t d) {
  return (d / kKvGroup * kKvInterleave + position % kKvInterleave) * sizeof(uint16_t);
}

/// q8_0: a group whose largest magnitude is below this counts as zero; its scale would round to zero in float16 anyway.
inline constexpr float kLeastScaled = 0x1p-100f;
/// q8_0: bits of a magnitude from which on it is infinite or not a number. Such a group's scale is not a number either.
inline constexpr uint32_t kInfinityBits = 0x7f800000;

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_KV_LAYOUT_H_
