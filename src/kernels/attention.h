// Causal attention over a float16 or float32 key-value cache, and the appending to it.
#ifndef OUTRIGGER_SRC_KERNELS_ATTENTION_H_
#define OUTRIGGER_SRC_KERNELS_ATTENTION_H_

#include <outrigger/step_shape.h>

#include <cstddef>
#include <cstdint>

namespace outrigger {

// The cache of one layer, float16 bits or float32, kv_heads x capacity x head_dim elements a side:
//   keys    [kv_heads][capacity / 16][head_dim][16]: 16 positions are interleaved, so that a vector lane is a position and a score needs
//           no horizontal sum
//   values  [kv_heads][capacity][head_dim]
// In both, the first n positions of a head lie in its first kv_positions(n) * head_dim elements: that is what a copy has to take.

/// Positions that are interleaved in the key cache; `capacity` is a multiple of it.
inline constexpr size_t kKvInterleave = 16;
/// `positions` rounded up to a multiple of kKvInterleave: for choosing the capacity and for copying a prefix.
inline constexpr size_t kv_positions(size_t positions) { return (positions + kKvInterleave - 1) / kKvInterleave * kKvInterleave; }

/// What appending reads and writes. Nothing is owned.
struct AppendKvArgs {
  const float* k;  ///< [tokens, kv_heads, head_dim], tokens k_stride floats apart
  const float* v;  ///< [tokens, kv_heads, head_dim], tokens v_stride floats apart
  size_t k_stride, v_stride;
  void* k_cache;  ///< 64-byte aligned, layout above
  void* v_cache;
  size_t tokens, kv_heads, head_dim;
  size_t capacity;        ///< positions a head has room for: a multiple of kKvInterleave
  size_t first_position;  ///< of token 0; first_position + tokens <= capacity
  KvType type = KvType::kF16;
};

/// Stores the tokens' keys and values of heads [kv_head_begin, kv_head_end); as float16 rounded to the nearest (beyond its range: infinity).
/// Any thread; threads take disjoint heads. Allocates nothing. The bits are the same at every instruction level, NaN payloads aside.
void append_kv(const AppendKvArgs& args, size_t kv_head_begin, size_t kv_head_end);

/// What attention reads and writes. Nothing is owned.
struct AttentionArgs {
  const float* q;  ///< [tokens, heads, head_dim], tokens q_stride floats apart
  size_t q_stride;
  const void* k_cache;  ///< positions 0 .. first_position + tokens - 1 are filled; what lies beyond is never used
  const void* v_cache;
  float* dst;  ///< [tokens, heads, head_dim], tokens dst_stride floats apart
  size_t dst_stride;
  size_t tokens, heads, kv_heads, head_dim;  ///< heads is a multiple of kv_heads: head h reads kv head h / (heads / kv_heads)
  size_t capacity;
  size_t first_position;  ///< of token 0: token t attends positions 0 .. first_position + t
  float scale;            ///< of the scores, 1 / sqrt(head_dim) as a rule
  std::byte* scratch;     ///< attention_scratch_bytes(head_dim) for each thread, scratch_stride_bytes apart, 64-byte aligned
  size_t scratch_stride_bytes;
  KvType type = KvType::kF16;
};

/// Independent pieces of work of such a call; any contiguous split of them among threads is balanced, though later tokens see more.
size_t attention_items(const AttentionArgs& args);

/// Scratch of one thread, a multiple of 64. Does not depend on the context: the softmax runs once over the positions, block by block.
uint64_t attention_scratch_bytes(size_t head_dim);

/// dst = softmax(scale * q k^T) v for the items [item_begin, item_end), with the scratch of `thread`.
/// Threads take disjoint items and each its own `thread`. Allocates nothing. The bits are the same at every level (NaN payloads aside) and
/// depend on the query and the positions it sees alone: not on the other queries of the call or the split. Within 2e-6 * max |v| of the
/// exact value for scores below 30 in magnitude. A query whose scores hold a NaN gives NaN.
/// @source Milakov and Gimelshein 2018 (arXiv 1805.02867): softmax in one pass
void attention(const AttentionArgs& args, size_t item_begin, size_t item_end, size_t thread);

void append_kv_ref(const AppendKvArgs& args, size_t kv_head_begin, size_t kv_head_end);     ///< the definition
void append_kv_avx2(const AppendKvArgs& args, size_t kv_head_begin, size_t kv_head_end);    ///< needs SimdLevel::kAvx2
void append_kv_avx512(const AppendKvArgs& args, size_t kv_head_begin, size_t kv_head_end);  ///< needs SimdLevel::kAvx512

/// The definition; of the scratch it uses one row of sums.
void attention_ref(const AttentionArgs& args, size_t item_begin, size_t item_end, size_t thread);
void attention_avx2(const AttentionArgs& args, size_t item_begin, size_t item_end, size_t thread);    ///< needs SimdLevel::kAvx2
void attention_avx512(const AttentionArgs& args, size_t item_begin, size_t item_end, size_t thread);  ///< needs SimdLevel::kAvx512

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_ATTENTION_H_
