// Causal attention over a key-value cache.
#ifndef OUTRIGGER_SRC_KERNELS_ATTENTION_H_
#define OUTRIGGER_SRC_KERNELS_ATTENTION_H_

#include "src/base/thread_team.h"
#include "src/kernels/kv_layout.h"
#include "src/kernels/token_tree.h"

namespace outrigger {

/// What attention reads and writes. Nothing is owned.
struct AttentionArgs {
  const float* q;  ///< [tokens, heads, head_dim], tokens q_stride floats apart
  size_t q_stride;
  const void* k_cache;  ///< places 0 .. first_position + tokens - 1 are filled; what lies beyond is never used
  const void* v_cache;
  float* dst;  ///< [tokens, heads, head_dim], tokens dst_stride floats apart
  size_t dst_stride;
  size_t tokens, heads, kv_heads, head_dim;  ///< heads is a multiple of kv_heads: head h reads kv head h / (heads / kv_heads)
  size_t capacity;
  size_t first_position;  ///< of token 0: token t attends positions 0 .. first_position + t; of the root where there is a tree
  float scale;            ///< of the scores, 1 / sqrt(head_dim) as a rule
  std::byte* scratch;     ///< attention_scratch_bytes(head_dim) for each member of the team, one after the other, 64-byte aligned
  KvType type = KvType::kF16;
  /// Of which the tokens are those from `tree_begin` on, in order of their depth; the keys and values of those before it are in the cache
  /// too. null: each token follows the one before it.
  const TokenTree* tree = nullptr;
  size_t tree_begin = 0;
};

/// Scratch of one thread, a multiple of 64. Does not depend on the context.
uint64_t attention_scratch_bytes(size_t head_dim);

/// dst = softmax(scale * q k^T) v. All members of a region call it with the same arguments. It returns without a last barrier: one must
/// come before dst is read, or before another call with the same scratch. Allocates nothing.
///
/// Positions are cut into parts of kPartPositions. Each part has a softmax of its own, and the parts are folded in order of position,
/// whoever computed them: many queries are shared among the members, few queries' parts are, with barriers inside.
///
/// The bits are the same at every level (NaN payloads aside) and depend on the query and the positions it sees alone: not on the other
/// queries of the call or the members, nor on whether what it sees lies at other places, being a tree's. Within 2e-6 * max |v| of the exact
/// value for scores below 30 in magnitude. A query whose scores hold a NaN gives NaN.
/// @source Milakov and Gimelshein 2018 (arXiv 1805.02867): softmax in one pass
void attention(const AttentionArgs& args, const TeamMember& member);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_ATTENTION_H_
