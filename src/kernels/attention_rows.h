// How attention's work is cut: rows of (token, query head) pairs that share a key-value head, in units that share each reading of it.
#ifndef OUTRIGGER_SRC_KERNELS_ATTENTION_ROWS_H_
#define OUTRIGGER_SRC_KERNELS_ATTENTION_ROWS_H_

#include <algorithm>

#include "src/kernels/attention.h"

// Internal linkage for the reason given in avx512.h.
namespace outrigger {
namespace {

/// Rows of a unit: enough to pay for converting the keys and values (one conversion for 24 products), few enough for their queries,
/// scores and sums to stay in the first-level cache at 128 elements a head.
constexpr size_t kRowBlock = 24;
/// Positions after which the running softmax is rescaled. The same for every query, so that a query's bits are its own.
constexpr size_t kPositionBlock = 128;
/// Positions of a part, which has a softmax of its own. Fixed for the same reason. Half of it would cost 5 % of attention's time in
/// folding, twice as many would save 1 % and leave threads with less to share.
constexpr size_t kPartPositions = 512;

/// One unit of work: rows [row_begin, row_end) of one key-value head. Row r is token r / group and the (r % group)-th query head of the
/// group.
struct AttentionUnit {
  size_t kv_head, row_begin, row_end;
};

inline size_t head_group(const AttentionArgs& args) { return args.heads / args.kv_heads; }
inline size_t row_blocks(const AttentionArgs& args) { return (args.tokens * head_group(args) + kRowBlock - 1) / kRowBlock; }
inline size_t attention_units(const AttentionArgs& args) { return row_blocks(args) * args.kv_heads; }

/// Unit i. Early and late row blocks alternate (0, last, 1, last - 1, ...), because a late one sees more positions.
inline AttentionUnit attention_unit(const AttentionArgs& args, size_t i) {
  const size_t blocks = row_blocks(args), place = i / args.kv_heads;
  const size_t block = place % 2 == 0 ? place / 2 : blocks - 1 - place / 2;
  return {i % args.kv_heads, block * kRowBlock, std::min((block + 1) * kRowBlock, args.tokens * head_group(args))};
}

/// Positions that a token and row r see, and the parts they make.
inline size_t token_positions(const AttentionArgs& args, size_t token) {
  return args.first_position + (args.tree == nullptr ? token : args.tree->depth(args.tree_begin + token)) + 1;
}
inline size_t row_positions(const AttentionArgs& args, size_t row) { return token_positions(args, row / head_group(args)); }
inline size_t parts_of(size_t positions) { return (positions + kPartPositions - 1) / kPartPositions; }

/// Where in the cache lies what row r sees at a position.
inline size_t place_of(const AttentionArgs& args, size_t row, size_t position) {
  if (args.tree == nullptr || position < args.first_position) return position;
  return args.first_position + args.tree->on_path(args.tree_begin + row / head_group(args), position - args.first_position);
}

/// Where row r's query (in units of floats from q, with stride q_stride) and output begin.
inline size_t row_offset(const AttentionArgs& args, const AttentionUnit& unit, size_t row, size_t stride) {
  const size_t group = head_group(args);
  return row / group * stride + (unit.kv_head * group + row % group) * args.head_dim;
}

/// A head's width in whole vectors of every level.
inline size_t padded_dim(size_t head_dim) { return (head_dim + 15) / 16 * 16; }

/// What is known of a row's softmax over some positions: floats [0] the largest score, [1] the sum of the weights relative to it, and
/// from kResultHead on the values weighted so.
constexpr size_t kResultHead = 16;
inline size_t result_floats(size_t head_dim) { return kResultHead + padded_dim(head_dim); }

/// q8_0: queries become integers of this size, the largest element of a head the largest of them.
constexpr float kQueryCodes = 32767;

}  // namespace
}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_ATTENTION_ROWS_H_
