// Moving a tree's path together in the key-value cache: an element a thread, which goes through the places in their order. The grid's
// second dimension is the heads of all layers, its third keys and values.
#include "cuda/kernels/device_code.h"
#include "cuda/kernels/ops.h"

namespace outrigger::cuda {
namespace {

constexpr uint32_t kThreads = 128;

struct Move {
  MoveKvArgs args;
  size_t first_head;  ///< of the launch

  OTR_DEVICE bool is_value() const { return block_z() == 1; }
  OTR_DEVICE uint32_t element() const { return block_x() * kThreads + thread_index(); }
  /// The head's first block, of keys or of values.
  OTR_DEVICE std::byte* head() const {
    const size_t head = first_head + block_y(), side = head / args.kv_heads * 2 + (is_value() ? 1 : 0);
    return args.cache + kv_head_offset(args.type, args.head_dim, args.capacity, side * args.kv_heads + head % args.kv_heads);
  }
  OTR_DEVICE size_t from(uint32_t i) const { return args.first_place + args.from[i]; }
  OTR_DEVICE size_t to(uint32_t i) const { return args.first_place + i; }
};

template <typename Element>
OTR_KERNEL_OF(kThreads)
void move_floats(Move move) {
  const size_t head_dim = move.args.head_dim, d = move.element();
  if (d >= head_dim) return;
  Element* const head = reinterpret_cast<Element*>(move.head());
  const auto index = [&](size_t place) { return move.is_value() ? place * head_dim + d : key_index(place, d, head_dim); };
  for (uint32_t i = 0; i < move.args.count; ++i) head[index(move.to(i))] = head[index(move.from(i))];
}

OTR_KERNEL_OF(kThreads) void move_codes(Move move) {
  const size_t head_dim = move.args.head_dim, d = move.element();
  if (d >= head_dim) return;
  std::byte* const head = move.head();
  const auto block = [&](size_t place) { return head + place / kKvInterleave * q8_block_bytes(head_dim); };
  const auto code = [&](size_t place) {
    return block(place) + (move.is_value() ? q8_value_offset(place, d, head_dim) : q8_key_offset(place, d, head_dim));
  };
  const auto scale = [&](size_t place) { return reinterpret_cast<uint16_t*>(block(place) + q8_scale_offset(place, d)); };
  for (uint32_t i = 0; i < move.args.count; ++i) {
    *code(move.to(i)) = *code(move.from(i));
    if (d % kKvGroup == 0) *scale(move.to(i)) = *scale(move.from(i));
  }
}

}  // namespace

CudaCode launch_op(const Launcher& launcher, const MoveKvArgs& args) {
  const auto kernel = args.type == KvType::kQ8_0  ? move_codes
                      : args.type == KvType::kF32 ? move_floats<float>
                                                  : move_floats<uint16_t>;
  return launch_tokens(args.layers * args.kv_heads, [&](size_t first, uint32_t heads) {
    return launch(launcher, kernel, {{blocks_of(args.head_dim, kThreads), heads, 2}, kThreads}, Move{args, first});
  });
}

}  // namespace outrigger::cuda
