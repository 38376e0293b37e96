// Appending to the key-value cache as the vector versions share it, over V::store_kv(src, count, dst), which rounds or copies floats.
#ifndef OUTRIGGER_SRC_KERNELS_APPEND_KV_VECTOR_H_
#define OUTRIGGER_SRC_KERNELS_APPEND_KV_VECTOR_H_

#include <algorithm>

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
void append_kv_vector(const AppendKvArgs& args, size_t kv_head_begin, size_t kv_head_end) {
  for (size_t h = kv_head_begin; h < kv_head_end; ++h) {
    for (size_t t = 0; t < args.tokens; ++t) {
      args.type == KvType::kF32 ? append_one<V, float>(args, h, t) : append_one<V, uint16_t>(args, h, t);
    }
  }
}

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_APPEND_KV_VECTOR_H_
