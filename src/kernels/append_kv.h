// Appending to the key-value cache of a layer.
#ifndef OUTRIGGER_SRC_KERNELS_APPEND_KV_H_
#define OUTRIGGER_SRC_KERNELS_APPEND_KV_H_

#include "src/kernels/kv_layout.h"

namespace outrigger {

/// What appending reads and writes. Nothing is owned.
struct AppendKvArgs {
  const float* k;  ///< [tokens, kv_heads, head_dim], tokens k_stride floats apart
  const float* v;  ///< [tokens, kv_heads, head_dim], tokens v_stride floats apart
  size_t k_stride, v_stride;
  void* k_cache;  ///< 32-byte aligned, laid out as in kv_layout.h
  void* v_cache;
  size_t tokens, kv_heads, head_dim;
  size_t capacity;        ///< positions a head has room for: a multiple of kKvInterleave
  size_t first_position;  ///< of token 0; first_position + tokens <= capacity
  KvType type = KvType::kF16;
};

/// Stores the tokens' keys and values of heads [kv_head_begin, kv_head_end); as float16 rounded to the nearest (beyond its range:
/// infinity); as q8_0 in steps of a 127th of a group's largest magnitude, halves rounded away from zero, a scale beyond float16's range
/// being infinite, and a group with an infinity or a NaN all NaN. Precondition: kv_type_fits(type, head_dim). Any thread; threads take
/// disjoint heads or tokens. Allocates nothing. The bits are the same at every instruction level, NaN payloads aside.
void append_kv(const AppendKvArgs& args, size_t kv_head_begin, size_t kv_head_end);

void append_kv_ref(const AppendKvArgs& args, size_t kv_head_begin, size_t kv_head_end);     ///< the definition
void append_kv_avx2(const AppendKvArgs& args, size_t kv_head_begin, size_t kv_head_end);    ///< needs SimdLevel::kAvx2
void append_kv_avx512(const AppendKvArgs& args, size_t kv_head_begin, size_t kv_head_end);  ///< needs SimdLevel::kAvx512

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_APPEND_KV_H_
