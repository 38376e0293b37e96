// Moving within the key-value cache: copies of what is stored, whatever it means.
#include "src/kernels/move_kv.h"

#include <cstring>

namespace outrigger {
namespace {

void move_codes(const KvPlaceArgs& args, std::byte* keys, std::byte* values, size_t from, size_t to) {
  const auto block = [&](std::byte* side, size_t place) { return side + place / kKvInterleave * q8_block_bytes(args.head_dim); };
  std::byte *const keys_from = block(keys, from), *const keys_to = block(keys, to);
  std::byte *const values_from = block(values, from), *const values_to = block(values, to);
  for (size_t d = 0; d < args.head_dim; d += kKvGroup) {
    std::memcpy(keys_to + q8_scale_offset(to, d), keys_from + q8_scale_offset(from, d), sizeof(uint16_t));
    std::memcpy(values_to + q8_scale_offset(to, d), values_from + q8_scale_offset(from, d), sizeof(uint16_t));
  }
  for (size_t d = 0; d < args.head_dim; d += 2) {
    std::memcpy(keys_to + q8_key_offset(to, d, args.head_dim), keys_from + q8_key_offset(from, d, args.head_dim), 2);
  }
  std::memcpy(values_to + q8_value_offset(to, 0, args.head_dim), values_from + q8_value_offset(from, 0, args.head_dim), args.head_dim);
}

template <typename Element>
void move_elements(const KvPlaceArgs& args, std::byte* keys, std::byte* values, size_t from, size_t to) {
  Element* const k = reinterpret_cast<Element*>(keys);
  Element* const v = reinterpret_cast<Element*>(values);
  for (size_t d = 0; d < args.head_dim; ++d) k[key_index(to, d, args.head_dim)] = k[key_index(from, d, args.head_dim)];
  std::memcpy(v + to * args.head_dim, v + from * args.head_dim, args.head_dim * sizeof(Element));
}

}  // namespace

void move_kv_place(const KvPlaceArgs& args, size_t from, size_t to) {
  if (from == to) return;
  for (size_t h = 0; h < args.kv_heads; ++h) {
    const uint64_t head = kv_head_offset(args.type, args.head_dim, args.capacity, h);
    if (args.type == KvType::kF16) move_elements<uint16_t>(args, args.k_cache + head, args.v_cache + head, from, to);
    if (args.type == KvType::kF32) move_elements<float>(args, args.k_cache + head, args.v_cache + head, from, to);
    if (args.type == KvType::kQ8_0) move_codes(args, args.k_cache + head, args.v_cache + head, from, to);
  }
}

}  // namespace outrigger
