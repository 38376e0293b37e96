// Appending to the key-value cache as the vector versions share it.
// V::store_kv(src, count, dst)      rounds or copies `count` floats, at most kLanes
// V::quantize(src, codes)           turns 32 floats into codes and returns their scale in float16
#ifndef OUTRIGGER_SRC_KERNELS_APPEND_KV_VECTOR_H_
#define OUTRIGGER_SRC_KERNELS_APPEND_KV_VECTOR_H_

#include <algorithm>
#include <bit>
#include <cstring>

#include "src/kernels/append_kv.h"

// V has internal linkage in each of its files, and through it so has everything here: no version can be taken for another's.
namespace outrigger {

template <typename V, typename Element>
void append_one(const AppendKvArgs& args, size_t kv_head, size_t token) {
  const size_t head_offset = kv_head * args.capacity * args.head_dim, position = args.first_position + token;
  Element* keys = static_cast<Element*>(args.k_cache) + head_offset + key_index(position, 0, args.head_dim);
  Element* values = static_cast<Element*>(args.v_cache) + head_offset + position * args.head_dim;
  const float* k = args.k + token * args.k_stride + kv_head * args.head_dim;
  const float* v = args.v + token * args.v_stride + kv_head * args.head_dim;
  for (size_t d = 0; d < args.head_dim; d += V::kLanes) {
    Element stored[V::kLanes];
    const size_t count = std::min(V::kLanes, args.head_dim - d);
    V::store_kv(v + d, count, values + d);
    V::store_kv(k + d, count, stored);
    for (size_t i = 0; i < count; ++i) keys[(d + i) * kKvInterleave] = stored[i];
  }
}

template <typename V>
void append_codes(const AppendKvArgs& args, size_t kv_head, size_t token) {
  const size_t position = args.first_position + token, head_dim = args.head_dim;
  const uint64_t block = kv_head_offset(args.type, head_dim, args.capacity, kv_head) + position / kKvInterleave * q8_block_bytes(head_dim);
  std::byte* const keys = static_cast<std::byte*>(args.k_cache) + block;
  std::byte* const values = static_cast<std::byte*>(args.v_cache) + block;
  for (size_t d = 0; d < head_dim; d += kKvGroup) {
    int8_t codes[kKvGroup];
    uint16_t scale = V::quantize(args.k + token * args.k_stride + kv_head * head_dim + d, codes);
    std::memcpy(keys + q8_scale_offset(position, d), &scale, sizeof scale);
    for (size_t i = 0; i < kKvGroup; i += 2) std::memcpy(keys + q8_key_offset(position, d + i, head_dim), codes + i, 2);
    scale = V::quantize(args.v + token * args.v_stride + kv_head * head_dim + d, codes);
    std::memcpy(values + q8_scale_offset(position, d), &scale, sizeof scale);
    std::memcpy(values + q8_value_offset(position, d, head_dim), codes, kKvGroup);
  }
}

template <typename V>
void append_kv_vector(const AppendKvArgs& args, size_t kv_head_begin, size_t kv_head_end) {
  for (size_t h = kv_head_begin; h < kv_head_end; ++h) {
    for (size_t t = 0; t < args.tokens; ++t) {
      if (args.type == KvType::kF16) append_one<V, uint16_t>(args, h, t);
      if (args.type == KvType::kF32) append_one<V, float>(args, h, t);
      if (args.type == KvType::kQ8_0) append_codes<V>(args, h, t);
    }
  }
}

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_APPEND_KV_VECTOR_H_
