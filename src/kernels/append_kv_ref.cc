// Appending to the key-value cache: the definition.
#include "src/kernels/append_kv.h"
#include "src/tensor/half.h"

namespace outrigger {
namespace {

void store(float x, uint16_t* dst) { *dst = float_to_f16(x); }
void store(float x, float* dst) { *dst = x; }

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
    for (size_t t = 0; t < args.tokens; ++t) args.type == KvType::kF32 ? append<float>(args, h, t) : append<uint16_t>(args, h, t);
  }
}

}  // namespace outrigger
