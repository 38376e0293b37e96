// Operations, each shared among a team's members.
#include "src/device/op_run.h"

#include <chrono>
#include <cstring>
#include <thread>

namespace outrigger {
namespace {

constexpr size_t kLineFloats = 16;  // a cache line belongs to one member

struct Share {
  size_t begin = 0, end = 0;
  bool is_empty() const { return begin == end; }
  size_t count() const { return end - begin; }
};

Share share_of(const TeamMember& member, size_t items, size_t granule = 1) {
  Share share;
  member.share(items, granule, &share.begin, &share.end);
  return share;
}

void run(const MatmulArgs& args, const TeamMember& member) {
  const Share blocks = share_of(member, matmul_blocks(args.rows));
  if (!blocks.is_empty()) matmul(args, blocks.begin, blocks.end);
}

void run(const QuantizeArgs& args, const TeamMember& member) {
  const Share tokens = share_of(member, args.tokens);
  if (!tokens.is_empty()) quantize_activations(args, tokens.begin, tokens.end);
}

void run(const RemainderArgs& args, const TeamMember& member) {
  const Share tokens = share_of(member, args.of.tokens);
  if (!tokens.is_empty()) quantization_remainder(args.of, tokens.begin, tokens.end, args.remainder);
}

void run(const RoundArgs& args, const TeamMember& member) {
  const Share tokens = share_of(member, args.tokens);
  if (!tokens.is_empty()) round_activations(args.of, tokens.begin, tokens.end);
}

void run(RmsNormArgs args, const TeamMember& member) {
  const Share tokens = share_of(member, args.tokens);
  if (tokens.is_empty()) return;
  args.src += tokens.begin * args.width;
  args.dst += tokens.begin * args.width;
  args.tokens = tokens.count();
  rms_norm(args);
}

void run(RopeArgs args, const TeamMember& member) {
  const Share tokens = share_of(member, args.tokens);
  if (tokens.is_empty()) return;
  args.x += tokens.begin * args.stride;
  args.cos_sin += tokens.begin * args.rotary_dim;
  args.tokens = tokens.count();
  rope(args);
}

void run(const AppendKvArgs& args, const TeamMember& member) {
  const Share heads = share_of(member, args.kv_heads);
  if (!heads.is_empty()) append_kv(args, heads.begin, heads.end);
}

void run(const AttentionArgs& args, const TeamMember& member) { attention(args, member); }

void run(const SiluMulArgs& args, const TeamMember& member) {
  const Share items = share_of(member, args.count, kLineFloats);
  if (!items.is_empty()) silu_mul({args.gate + items.begin, args.up + items.begin, args.dst + items.begin, items.count()});
}

void run(const AddBiasArgs& args, const TeamMember& member) {
  const Share rows = share_of(member, args.rows, kLineFloats);
  if (!rows.is_empty()) add_bias({args.bias + rows.begin, args.dst + rows.begin, args.dst_stride, rows.count(), args.tokens});
}

void run(const AddArgs& args, const TeamMember& member) {
  const Share items = share_of(member, args.width, kLineFloats);
  for (size_t t = 0; t < args.tokens; ++t) {
    const float* const src = args.src + t * args.src_stride;
    float* const dst = args.dst + t * args.dst_stride;
    for (size_t i = items.begin; i < items.end; ++i) dst[i] += src[i];
  }
}

void run(const CopyArgs& args, const TeamMember& member) {
  const Share bytes = share_of(member, args.bytes, kLineFloats * sizeof(float));
  if (!bytes.is_empty()) std::memcpy(args.dst + bytes.begin, args.src + bytes.begin, bytes.count());
}

void run(const MoveKvArgs& args, const TeamMember& member) {
  const Share heads = share_of(member, args.layers * args.kv_heads);
  if (!heads.is_empty()) move_kv(args, heads.begin, heads.end);
}

void run(const SendArgs& args, const TeamMember& member) {
  const Share items = share_of(member, args.count, kLineFloats);
  if (!items.is_empty()) send_words(args.src, args.words, items.begin, items.end, static_cast<uint32_t>(args.number));
}

void run(const ReceiveArgs& args, const TeamMember& member) {
  const Share items = share_of(member, args.count, kLineFloats);
  const auto begin = std::chrono::steady_clock::now();
  for (size_t next = items.begin;;) {
    next = receive_words(args.words, next, items.end, static_cast<uint32_t>(args.number),
                         [&args](size_t i, float value) { args.dst[i] = args.accumulate ? args.dst[i] + value : value; });
    if (next == items.end || load_word(args.closed) != 0) return;
    if (std::chrono::steady_clock::now() - begin > std::chrono::nanoseconds(args.patience_ns))
      return store_word(args.closed, kHandoffTimedOut);
    std::this_thread::yield();
  }
}

}  // namespace

void run_op(const DeviceOp& op, const TeamMember& member) {
  std::visit([&member](const auto& args) { run(args, member); }, op);
}

}  // namespace outrigger
