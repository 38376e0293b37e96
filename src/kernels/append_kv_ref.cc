// Appending to the key-value cache: the definition.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "src/kernels/append_kv.h"
#include "src/tensor/half.h"

namespace outrigger {
namespace {

void store(float x, uint16_t* dst) { *dst = float_to_f16(x); }
void store(float x, float* dst) { *dst = x; }

/// A group of q8_0 as its authors round it: to the nearest of 127 steps, halves away from zero. The scale, in float16.
uint16_t quantize(const float* src, int8_t* codes) {
  uint32_t most = 0;
  for (size_t i = 0; i < kKvGroup; ++i) most = std::max(most, std::bit_cast<uint32_t>(src[i]) & 0x7fffffff);
  const float largest = std::bit_cast<float>(most), scale = largest / 127;
  const float inverse = most < kInfinityBits && largest >= kLeastScaled ? 1 / scale : 0;
  for (size_t i = 0; i < kKvGroup; ++i) codes[i] = inverse == 0 ? int8_t{0} : static_cast<int8_t>(std::round(src[i] * inverse));
  return most < kInfinityBits ? float_to_f16(scale) : uint16_t{0x7e00};
}

void append_codes(const AppendKvArgs& args, size_t kv_head, size_t token) {
  const size_t position = args.first_position + token, head_dim = args.head_dim;
  const uint64_t block = kv_head_offset(args.type, head_dim, args.capacity, kv_head) + position / kKvInterleave * q8_block_bytes(head_dim);
  std::byte* const keys = static_cast<std::byte*>(args.k_cache) + block;
  std::byte* const values = static_cast<std::byte*>(args.v_cache) + block;
  for (size_t d = 0; d < head_dim; d += kKvGroup) {
    int8_t codes[kKvGroup];
    uint16_t scale = quantize(args.k + token * args.k_stride + kv_head * head_dim + d, codes);
    std::memcpy(keys + q8_scale_offset(position, d), &scale, sizeof scale);
    for (size_t i = 0; i < kKvGroup; ++i) keys[q8_key_offset(position, d + i, head_dim)] = static_cast<std::byte>(codes[i]);
    scale = quantize(args.v + token * args.v_stride + kv_head * head_dim + d, codes);
    std::memcpy(values + q8_scale_offset(position, d), &scale, sizeof scale);
    for (size_t i = 0; i < kKvGroup; ++i) values[q8_value_offset(position, d + i, head_dim)] = static_cast<std::byte>(codes[i]);
  }
}

template <typename Element>
void append(const AppendKvArgs& args, size_t kv_head, size_t token) {
  const size_t head_offset = kv_head * args.capacity * args.head_dim, position = args.first_position + token;
  Element* keys = static_cast<Element*>(args.k_cache) + head_offset;
  Element* values = static_cast<Element*>(args.v_cache) + head_offset;
  const float* k = args.k + token * args.k_stride + kv_head * args.head_dim;
  const float* v = args.v + token * args.v_stride + kv_head * args.head_dim;
  for (size_t d = 0; d < args.head_dim; ++d) {
    store(k[d], &keys[key_index(position, d, args.head_dim)]);
    store(v[d], &values[position * args.head_dim + d]);
  }
}

}  // namespace

void append_kv_ref(const AppendKvArgs& args, size_t kv_head_begin, size_t kv_head_end) {
  for (size_t h = kv_head_begin; h < kv_head_end; ++h) {
    for (size_t t = 0; t < args.tokens; ++t) {
      if (args.type == KvType::kF16) append<uint16_t>(args, h, t);
      if (args.type == KvType::kF32) append<float>(args, h, t);
      if (args.type == KvType::kQ8_0) append_codes(args, h, t);
    }
  }
}

}  // namespace outrigger
