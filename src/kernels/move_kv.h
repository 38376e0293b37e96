// Moving what a key-value cache holds of a tree's path together behind its root.
#ifndef OUTRIGGER_SRC_KERNELS_MOVE_KV_H_
#define OUTRIGGER_SRC_KERNELS_MOVE_KV_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "src/kernels/kv_layout.h"
#include "src/kernels/token_tree.h"

namespace outrigger {

/// Layers' caches, and what moves in each of them. Nothing is owned.
struct MoveKvArgs {
  std::byte* cache;  ///< layer after layer: of each the keys, then the values, laid out as in kv_layout.h
  size_t layers, kv_heads, head_dim;
  size_t capacity;  ///< positions a head has room for: a multiple of kKvInterleave
  size_t first_place;
  size_t count;  ///< places first_place + i get what is at first_place + from[i], one after the other; up to kMostTreeTokens
  std::array<uint8_t, kMostTreeTokens> from;  ///< ascending, and from[i] >= i, so that nothing is overwritten that moves later
  KvType type = KvType::kF16;
};

/// The way from a tree's root, which lies at `root`, to `node`: cache, shape and type stay to be said. Places at its begin that hold
/// already what they should are left out; all of them: count is 0.
MoveKvArgs path_moves(size_t root, const TokenTree& tree, size_t node);

/// Of heads [begin, end), counted over all layers: layers * kv_heads in all. Copies what is stored, whatever it means. Precondition: all
/// places are below the capacity. Any thread, with heads of its own. Allocates nothing. Cost: two lines of memory for each element of a
/// key that moves, as keys are interleaved.
void move_kv(const MoveKvArgs& args, size_t begin, size_t end);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_MOVE_KV_H_
