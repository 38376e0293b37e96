// What the tests of attention and of appending share: a sequence with its cache, and the textbook formula on what the cache should hold.
#ifndef OUTRIGGER_TESTS_KERNELS_ATTENTION_CASE_H_
#define OUTRIGGER_TESTS_KERNELS_ATTENTION_CASE_H_

#include <cmath>

#include "src/kernels/append_kv.h"
#include "src/kernels/attention_task.h"
#include "tests/kernels/kernel_case.h"

namespace outrigger {

struct AttentionShape {
  size_t positions, heads, kv_heads, head_dim;
  KvType type = KvType::kF16;
};

/// What the cache should make of `count` keys or values of one head and position.
inline std::vector<double> stored(const float* src, size_t count, KvType type) {
  std::vector<double> values(src, src + count);
  if (type == KvType::kF16) {
    for (double& value : values) value = f16_to_float(float_to_f16(static_cast<float>(value)));
  }
  for (size_t d = 0; type == KvType::kQ8_0 && d < count; d += 32) {
    double largest = 0;
    for (size_t i = d; i < d + 32; ++i) largest = std::max(largest, std::fabs(values[i]));
    const float scale = static_cast<float>(largest) / 127, inverse = largest > 0 ? 1 / scale : 0;
    for (size_t i = d; i < d + 32; ++i) values[i] = std::round(static_cast<float>(values[i]) * inverse) * f16_to_float(float_to_f16(scale));
  }
  return values;
}

/// A sequence of `positions` tokens with their queries, keys and values, and the cache that holds them.
struct Sequence {
  AttentionShape shape;
  size_t capacity;
  std::vector<float> q, k, v;
  // NaN where nothing was stored, whatever the type: it must never be seen.
  std::vector<std::byte> k_cache, v_cache;

  explicit Sequence(const AttentionShape& shape)
      : shape(shape),
        capacity(kv_positions(shape.positions + 3)),
        q(normal_floats(shape.positions * shape.heads * shape.head_dim, 1)),
        k(normal_floats(shape.positions * shape.kv_heads * shape.head_dim, 2)),
        v(normal_floats(shape.positions * shape.kv_heads * shape.head_dim, 3)),
        k_cache(kv_head_offset(shape.type, shape.head_dim, capacity, shape.kv_heads), std::byte{0x7f}),
        v_cache(k_cache) {}

  size_t q_stride() const { return shape.heads * shape.head_dim; }
  size_t kv_stride() const { return shape.kv_heads * shape.head_dim; }

  void append(size_t begin, size_t end) {
    AppendKvArgs args{};
    args.k = k.data() + begin * kv_stride(), args.v = v.data() + begin * kv_stride();
    args.k_stride = args.v_stride = kv_stride();
    args.k_cache = k_cache.data(), args.v_cache = v_cache.data();
    args.tokens = end - begin, args.kv_heads = shape.kv_heads, args.head_dim = shape.head_dim;
    args.capacity = capacity, args.first_position = begin, args.type = shape.type;
    append_kv(args, 0, 1);
    append_kv(args, 1, shape.kv_heads);
  }

  AttentionArgs args(size_t begin, size_t end, float* dst, std::byte* scratch) const {
    AttentionArgs args{};
    args.q = q.data() + begin * q_stride(), args.q_stride = q_stride();
    args.k_cache = k_cache.data(), args.v_cache = v_cache.data();
    args.dst = dst, args.dst_stride = q_stride();
    args.tokens = end - begin, args.heads = shape.heads, args.kv_heads = shape.kv_heads, args.head_dim = shape.head_dim;
    args.capacity = capacity, args.first_position = begin, args.scale = 1 / std::sqrt(static_cast<float>(shape.head_dim));
    args.scratch = scratch, args.type = shape.type;
    return args;
  }

  /// The version in use, on a team.
  std::vector<float> attend(size_t begin, size_t end, ThreadTeam& team) const {
    std::vector<float> dst((end - begin) * q_stride(), 1e9f);
    const AlignedBytes scratch(team.threads() * attention_scratch_bytes(shape.head_dim));
    const AttentionArgs call = args(begin, end, dst.data(), scratch.data());
    team.run([&call](const TeamMember& member) { attention(call, member); });
    return dst;
  }

  /// The definition, one unit after the other.
  std::vector<float> defined(size_t begin, size_t end) const {
    std::vector<float> dst((end - begin) * q_stride(), 1e9f);
    const AlignedBytes scratch(attention_scratch_bytes(shape.head_dim));
    const AttentionArgs call = args(begin, end, dst.data(), scratch.data());
    AttentionTask task{};
    task.kind = AttentionTask::Kind::kUnits, task.end = attention_units(call), task.threads = 1;
    attention_ref(call, task);
    return dst;
  }

  /// The textbook formula in double on the stored values, for one token and head.
  std::vector<double> exact(size_t token, size_t head) const {
    const size_t kv = head / (shape.heads / shape.kv_heads), dim = shape.head_dim;
    std::vector<double> weights(token + 1), sum(dim);
    double total = 0;
    for (size_t p = 0; p <= token; ++p) {
      const std::vector<double> key = stored(&k[p * kv_stride() + kv * dim], dim, shape.type);
      for (size_t d = 0; d < dim; ++d) weights[p] += q[token * q_stride() + head * dim + d] * key[d];
      weights[p] = std::exp(weights[p] / std::sqrt(static_cast<double>(dim)));
      total += weights[p];
    }
    for (size_t p = 0; p <= token; ++p) {
      const std::vector<double> value = stored(&v[p * kv_stride() + kv * dim], dim, shape.type);
      for (size_t d = 0; d < dim; ++d) sum[d] += weights[p] / total * value[d];
    }
    return sum;
  }
};

inline std::vector<float> tail(const std::vector<float>& values, size_t count) {
  return {values.end() - static_cast<std::ptrdiff_t>(count), values.end()};
}

}  // namespace outrigger

#endif  // OUTRIGGER_TESTS_KERNELS_ATTENTION_CASE_H_
