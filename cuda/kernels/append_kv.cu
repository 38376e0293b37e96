// Appending to the key-value cache: an element a thread, or, in q8_0, a group of 32 a warp. The grid's third dimension is keys and values.
#include "cuda/kernels/device_code.h"
#include "cuda/kernels/ops.h"
#include "cuda/kernels/warp.h"

namespace outrigger::cuda {
namespace {

constexpr uint32_t kThreads = 128;

struct Append {
  AppendKvArgs args;
  Varying first_position;
  size_t first_token;  ///< of the launch

  /// What the block's thread stores: element `index` of all heads', its position and its value. A token's elements are fewer than 2^32.
  OTR_DEVICE bool is_value() const { return block_z() == 1; }
  OTR_DEVICE uint32_t index() const { return block_x() * kThreads + thread_index(); }
  OTR_DEVICE size_t token() const { return first_token + block_y(); }
  OTR_DEVICE size_t position() const { return (first_position.at != nullptr ? *first_position.at : first_position.value) + token(); }
  OTR_DEVICE float value() const {
    return is_value() ? args.v[token() * args.v_stride + index()] : args.k[token() * args.k_stride + index()];
  }
  OTR_DEVICE std::byte* cache() const { return static_cast<std::byte*>(is_value() ? args.v_cache : args.k_cache); }
};

OTR_DEVICE void store_as(uint16_t* dst, float value) { *dst = float_to_half(value); }
OTR_DEVICE void store_as(float* dst, float value) { *dst = value; }

template <typename Element>
OTR_KERNEL_OF(kThreads)
void append_floats(Append append) {
  const AppendKvArgs& args = append.args;
  const uint32_t head_dim = static_cast<uint32_t>(args.head_dim), index = append.index();
  const size_t position = append.position();
  if (index >= args.kv_heads * head_dim) return;
  const uint32_t d = index % head_dim;
  Element* const head = reinterpret_cast<Element*>(append.cache()) + index / head_dim * args.capacity * head_dim;
  store_as(head + (append.is_value() ? position * head_dim + d : key_index(position, d, head_dim)), append.value());
}

OTR_KERNEL_OF(kThreads) void append_codes(Append append) {
  const AppendKvArgs& args = append.args;
  const uint32_t head_dim = static_cast<uint32_t>(args.head_dim), index = append.index();
  const size_t position = append.position();
  if (index >= args.kv_heads * head_dim) return;  // a whole warp, since head_dim is in whole groups
  const float value = append.value();
  const uint32_t most = warp_largest_magnitude(value);
  const float largest = as_float(most), scale = largest / 127;
  const float inverse = most < kInfinityBits && largest >= kLeastScaled ? 1 / scale : 0;
  const int32_t code = inverse == 0 ? 0 : static_cast<int32_t>(roundf(value * inverse));

  std::byte* const block = append.cache() + kv_head_offset(args.type, head_dim, args.capacity, index / head_dim) +
                           position / kKvInterleave * q8_block_bytes(head_dim);
  const uint32_t d = index % head_dim;
  const size_t offset = append.is_value() ? q8_value_offset(position, d, head_dim) : q8_key_offset(position, d, head_dim);
  block[offset] = static_cast<std::byte>(code);
  if (d % kKvGroup == 0) {
    *reinterpret_cast<uint16_t*>(block + q8_scale_offset(position, d)) = most < kInfinityBits ? float_to_half(scale) : uint16_t{0x7e00};
  }
}

}  // namespace

CudaCode launch_op(const Launcher& launcher, const AppendKvArgs& args) {
  const auto kernel = args.type == KvType::kQ8_0  ? append_codes
                      : args.type == KvType::kF32 ? append_floats<float>
                                                  : append_floats<uint16_t>;
  const Varying first_position = varying(launcher, args.first_position);
  return launch_tokens(args.tokens, [&](size_t first, uint32_t tokens) {
    const GridSize grid{blocks_of(args.kv_heads * args.head_dim, kThreads), tokens, 2};
    return launch(launcher, kernel, {grid, kThreads}, Append{args, first_position, first});
  });
}

}  // namespace outrigger::cuda
