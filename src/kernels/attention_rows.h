// How attention's work is cut: rows of (token, query head) pairs that share a key-value head, in blocks that share each reading of it.
#ifndef OUTRIGGER_SRC_KERNELS_ATTENTION_ROWS_H_
#define OUTRIGGER_SRC_KERNELS_ATTENTION_ROWS_H_

#include <algorithm>

#include "src/kernels/attention.h"

namespace outrigger {

/// Rows of an item: enough to pay for converting the keys and values (one conversion for 24 products), few enough for their queries,
/// scores and sums to stay in the first-level cache at 128 elements a head.
inline constexpr size_t kRowBlock = 24;
/// Positions after which the running softmax is rescaled. The same for every query, so that a query's bits are its own.
inline constexpr size_t kPositionBlock = 128;

/// One item: rows [row_begin, row_end) of one key-value head. Row r is token r / group and the (r % group)-th query head of the group.
struct AttentionItem {
  size_t kv_head, row_begin, row_end;
};

inline size_t head_group(const AttentionArgs& args) { return args.heads / args.kv_heads; }
inline size_t row_blocks(const AttentionArgs& args) { return (args.tokens * head_group(args) + kRowBlock - 1) / kRowBlock; }

/// Item i. Early and late row blocks alternate (0, last, 1, last - 1, ...), because a late one sees more positions.
inline AttentionItem attention_item(const AttentionArgs& args, size_t i) {
  const size_t blocks = row_blocks(args), place = i / args.kv_heads;
  const size_t block = place % 2 == 0 ? place / 2 : blocks - 1 - place / 2;
  return {i % args.kv_heads, block * kRowBlock, std::min((block + 1) * kRowBlock, args.tokens * head_group(args))};
}

/// Positions that row r sees.
inline size_t row_positions(const AttentionArgs& args, size_t row) { return args.first_position + row / head_group(args) + 1; }
/// Where row r's query (in units of floats from q, with stride q_stride) and output begin.
inline size_t row_offset(const AttentionArgs& args, const AttentionItem& item, size_t row, size_t stride) {
  const size_t group = head_group(args);
  return row / group * stride + (item.kv_head * group + row % group) * args.head_dim;
}

/// Index of element d of a position's key in its head's part of the key cache.
inline size_t key_index(size_t position, size_t d, size_t head_dim) {
  return (position / kKvInterleave * head_dim + d) * kKvInterleave + position % kKvInterleave;
}

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_ATTENTION_ROWS_H_
