// What makes two operations the same launch.
#include "cuda/device/operation_run.h"

#include <bit>
#include <tuple>
#include <type_traits>

#include "cuda/kernels/attention_results.h"

namespace outrigger::cuda {
namespace {

template <typename T>
uint64_t word_of(T value) {
  if constexpr (std::is_pointer_v<T>)
    return reinterpret_cast<uintptr_t>(value);
  else if constexpr (std::is_same_v<T, float>)
    return std::bit_cast<uint32_t>(value);
  else
    return static_cast<uint64_t>(value);
}

template <typename... T>
OperationKey key(DeviceOpKind kind, T... fields) {
  static_assert(sizeof...(T) < std::tuple_size_v<OperationKey>);
  return {static_cast<uint64_t>(kind), word_of(fields)...};
}

// Every field has a name here, so that one that is added does not compile before it is compared.
OperationKey make_key(const MatmulArgs& args) {
  const auto& [kind, weights, rows, columns, src, src_stride, panel, dst, dst_stride, tokens, accumulate, stored_columns] = args;
  return key(DeviceOpKind::kMatmul, kind, weights, rows, columns, src, src_stride, panel, dst, dst_stride, tokens, accumulate,
             stored_columns);
}
OperationKey make_key(const QuantizeArgs& args, DeviceOpKind op = DeviceOpKind::kQuantize, const float* remainder = nullptr) {
  const auto& [src, src_stride, panel, tokens, width] = args;
  return key(op, src, src_stride, panel, tokens, width, remainder);
}
OperationKey make_key(const RemainderArgs& args) {
  const auto& [of, remainder] = args;
  return make_key(of, DeviceOpKind::kRemainder, remainder);
}
OperationKey make_key(const RoundArgs& args) {
  const auto& [of, tokens] = args;
  const auto& [src, src_stride, panel, width] = of;
  return key(DeviceOpKind::kRound, src, src_stride, panel, width, tokens);
}
OperationKey make_key(const RmsNormArgs& args) {
  const auto& [src, weight, dst, tokens, width, epsilon] = args;
  return key(DeviceOpKind::kRmsNorm, src, weight, dst, tokens, width, epsilon);
}
OperationKey make_key(const RopeArgs& args) {
  const auto& [x, stride, tokens, heads, head_dim, rotary_dim, cos_sin, style] = args;
  return key(DeviceOpKind::kRope, x, stride, tokens, heads, head_dim, rotary_dim, cos_sin, style);
}
OperationKey make_key(const AppendKvArgs& args) {
  const auto& [k, v, k_stride, v_stride, k_cache, v_cache, tokens, kv_heads, head_dim, capacity, first_position, type] = args;
  (void)first_position;
  return key(DeviceOpKind::kAppendKv, k, v, k_stride, v_stride, k_cache, v_cache, tokens, kv_heads, head_dim, capacity, type);
}
OperationKey make_key(const AttentionArgs& args) {
  const auto& [q, q_stride, k_cache, v_cache, dst, dst_stride, tokens, heads, kv_heads, head_dim, capacity, first_position, scale, scratch,
               type, tree, tree_begin] = args;
  (void)first_position;
  return key(DeviceOpKind::kAttention, q, q_stride, k_cache, v_cache, dst, dst_stride, tokens, heads, kv_heads, head_dim, capacity, scale,
             scratch, type, tree, tree_begin);
}
OperationKey make_key(const SiluMulArgs& args) {
  const auto& [gate, up, dst, count] = args;
  return key(DeviceOpKind::kSiluMul, gate, up, dst, count);
}
OperationKey make_key(const AddBiasArgs& args) {
  const auto& [bias, dst, dst_stride, rows, tokens] = args;
  return key(DeviceOpKind::kAddBias, bias, dst, dst_stride, rows, tokens);
}
OperationKey make_key(const AddArgs& args) {
  const auto& [src, src_stride, dst, dst_stride, tokens, width] = args;
  return key(DeviceOpKind::kAdd, src, src_stride, dst, dst_stride, tokens, width);
}
OperationKey make_key(const CopyArgs& args) {
  const auto& [src, dst, bytes] = args;
  return key(DeviceOpKind::kCopy, src, dst, bytes);
}

OperationKey make_key(const MoveKvArgs& args) {
  const auto& [cache, layers, kv_heads, head_dim, capacity, first_place, count, from, type] = args;
  const auto words = std::bit_cast<std::array<uint64_t, kMostTreeTokens / sizeof(uint64_t)>>(from);
  return key(DeviceOpKind::kMoveKv, cache, layers, kv_heads, head_dim, capacity, first_place, count, type, words[0], words[1], words[2],
             words[3]);
}

OperationKey make_key(const SendArgs& args) {
  const auto& [src, words, count, number] = args;
  (void)number;
  return key(DeviceOpKind::kSend, src, words, count);
}
OperationKey make_key(const ReceiveArgs& args) {
  const auto& [words, closed, dst, count, accumulate, number, patience_ns] = args;
  (void)number;
  return key(DeviceOpKind::kReceive, words, closed, dst, count, accumulate, patience_ns);
}

// What moves is another path each time. A recorded launch of attention has the grid of the whole cache: where the scratch has no room for
// that many parts, few blocks walk through all positions, which would cost more than launching.
bool can_repeat(const DeviceOp& op) {
  if (std::holds_alternative<MoveKvArgs>(op)) return false;
  const auto* const attention = std::get_if<AttentionArgs>(&op);
  return attention == nullptr || has_room_for_results(*attention, attention->capacity);
}

}  // namespace

OperationKey key_of(const DeviceOp& op) {
  return std::visit([](const auto& args) { return make_key(args); }, op);
}

const size_t* varying_of(const DeviceOp& op) {
  if (const auto* const append = std::get_if<AppendKvArgs>(&op)) return &append->first_position;
  if (const auto* const attention = std::get_if<AttentionArgs>(&op)) return &attention->first_position;
  if (const auto* const send = std::get_if<SendArgs>(&op)) return &send->number;
  if (const auto* const receive = std::get_if<ReceiveArgs>(&op)) return &receive->number;
  return nullptr;
}

size_t OperationRun::copy_varying(uint32_t* to) const {
  size_t count = 0;
  for (const DeviceOp& op : operations()) {
    if (const size_t* const varying = varying_of(op)) to[count++] = static_cast<uint32_t>(*varying);
  }
  return count;
}

void OperationRun::add(const DeviceOp& op) {
  operations_[size_] = op;
  keys_[size_] = key_of(op);
  for (const uint64_t word : keys_[size_]) {
    hash_ = (hash_ ^ word) * 0x9e3779b97f4a7c15;
    hash_ ^= hash_ >> 32;
  }
  is_repeatable_ = is_repeatable_ && can_repeat(op);
  ++size_;
}

void OperationRun::clear() {
  size_ = 0;
  hash_ = 0;
  is_repeatable_ = true;
}

}  // namespace outrigger::cuda
