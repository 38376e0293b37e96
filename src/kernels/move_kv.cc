// Moving within the key-value cache: copies of what is stored, whatever it means.
#include "src/kernels/move_kv.h"

#include <cstring>

namespace outrigger {
namespace {

void move_codes(std::byte* keys, std::byte* values, size_t head_dim, size_t from, size_t to) {
  const auto block = [head_dim](std::byte* side, size_t place) { return side + place / kKvInterleave * q8_block_bytes(head_dim); };
  std::byte *const keys_from = block(keys, from), *const keys_to = block(keys, to);
  std::byte *const values_from = block(values, from), *const values_to = block(values, to);
  for (size_t d = 0; d < head_dim; d += kKvGroup) {
    std::memcpy(keys_to + q8_scale_offset(to, d), keys_from + q8_scale_offset(from, d), sizeof(uint16_t));
    std::memcpy(values_to + q8_scale_offset(to, d), values_from + q8_scale_offset(from, d), sizeof(uint16_t));
  }
  for (size_t d = 0; d < head_dim; d += 2) {
    std::memcpy(keys_to + q8_key_offset(to, d, head_dim), keys_from + q8_key_offset(from, d, head_dim), 2);
  }
  std::memcpy(values_to + q8_value_offset(to, 0, head_dim), values_from + q8_value_offset(from, 0, head_dim), head_dim);
}

template <typename Element>
void move_elements(std::byte* keys, std::byte* values, size_t head_dim, size_t from, size_t to) {
  Element* const k = reinterpret_cast<Element*>(keys);
  Element* const v = reinterpret_cast<Element*>(values);
  for (size_t d = 0; d < head_dim; ++d) k[key_index(to, d, head_dim)] = k[key_index(from, d, head_dim)];
  std::memcpy(v + to * head_dim, v + from * head_dim, head_dim * sizeof(Element));
}

}  // namespace

MoveKvArgs path_moves(size_t root, const TokenTree& tree, size_t node) {
  MoveKvArgs args{};
  size_t depth = 0;
  while (depth <= tree.depth(node) && tree.on_path(node, depth) == depth) ++depth;
  args.first_place = root + depth;
  for (; depth <= tree.depth(node); ++depth)
    args.from[args.count++] = static_cast<uint8_t>(root + tree.on_path(node, depth) - args.first_place);
  return args;
}

void move_kv(const MoveKvArgs& args, size_t begin, size_t end) {
  const uint64_t head_bytes = kv_head_offset(args.type, args.head_dim, args.capacity, 1), side_bytes = args.kv_heads * head_bytes;
  for (size_t h = begin; h < end; ++h) {
    std::byte* const keys = args.cache + h / args.kv_heads * 2 * side_bytes + h % args.kv_heads * head_bytes;
    std::byte* const values = keys + side_bytes;
    for (size_t i = 0; i < args.count; ++i) {
      const size_t from = args.first_place + args.from[i], to = args.first_place + i;
      if (from == to) continue;
      if (args.type == KvType::kF16) move_elements<uint16_t>(keys, values, args.head_dim, from, to);
      if (args.type == KvType::kF32) move_elements<float>(keys, values, args.head_dim, from, to);
      if (args.type == KvType::kQ8_0) move_codes(keys, values, args.head_dim, from, to);
    }
  }
}

}  // namespace outrigger
