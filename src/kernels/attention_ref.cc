// Attention: the definition.
#include <cmath>
#include <limits>

#include "src/kernels/attention_rows.h"
#include "src/tensor/half.h"

namespace outrigger {
namespace {

double value_of(uint16_t half) { return f16_to_float(half); }
double value_of(float x) { return x; }
void store(float x, uint16_t* dst) { *dst = float_to_f16(x); }
void store(float x, float* dst) { *dst = x; }

template <typename Element>
double score(const AttentionArgs& args, const float* q, const Element* keys, size_t position) {
  double dot = 0;
  for (size_t d = 0; d < args.head_dim; ++d) dot += double{q[d]} * value_of(keys[key_index(position, d, args.head_dim)]);
  return dot * args.scale;
}

template <typename Element>
void attend(const AttentionArgs& args, const AttentionItem& item, size_t row, double* sums) {
  const float* q = args.q + row_offset(args, item, row, args.q_stride);
  const Element* keys = static_cast<const Element*>(args.k_cache) + item.kv_head * args.capacity * args.head_dim;
  const Element* values = static_cast<const Element*>(args.v_cache) + item.kv_head * args.capacity * args.head_dim;
  const size_t positions = row_positions(args, row);

  double max_score = -std::numeric_limits<double>::infinity();
  for (size_t p = 0; p < positions; ++p) max_score = std::fmax(max_score, score(args, q, keys, p));

  double weight_sum = 0;
  std::fill(sums, sums + args.head_dim, 0.0);
  for (size_t p = 0; p < positions; ++p) {
    const double weight = std::exp(score(args, q, keys, p) - max_score);
    weight_sum += weight;
    for (size_t d = 0; d < args.head_dim; ++d) sums[d] += weight * value_of(values[p * args.head_dim + d]);
  }
  float* dst = args.dst + row_offset(args, item, row, args.dst_stride);
  for (size_t d = 0; d < args.head_dim; ++d) dst[d] = static_cast<float>(sums[d] / weight_sum);
}

template <typename Element>
void append(const AppendKvArgs& args, size_t kv_head_begin, size_t kv_head_end) {
  for (size_t h = kv_head_begin; h < kv_head_end; ++h) {
    Element* keys = static_cast<Element*>(args.k_cache) + h * args.capacity * args.head_dim;
    Element* values = static_cast<Element*>(args.v_cache) + h * args.capacity * args.head_dim;
    for (size_t t = 0; t < args.tokens; ++t) {
      const float* k = args.k + t * args.k_stride + h * args.head_dim;
      const float* v = args.v + t * args.v_stride + h * args.head_dim;
      const size_t position = args.first_position + t;
      for (size_t d = 0; d < args.head_dim; ++d) {
        store(k[d], &keys[key_index(position, d, args.head_dim)]);
        store(v[d], &values[position * args.head_dim + d]);
      }
    }
  }
}

}  // namespace

void attention_ref(const AttentionArgs& args, size_t item_begin, size_t item_end, size_t thread) {
  double* sums = reinterpret_cast<double*>(args.scratch + thread * args.scratch_stride_bytes);
  for (size_t i = item_begin; i < item_end; ++i) {
    const AttentionItem item = attention_item(args, i);
    for (size_t row = item.row_begin; row < item.row_end; ++row) {
      args.type == KvType::kF32 ? attend<float>(args, item, row, sums) : attend<uint16_t>(args, item, row, sums);
    }
  }
}

void append_kv_ref(const AppendKvArgs& args, size_t kv_head_begin, size_t kv_head_end) {
  if (args.type == KvType::kF32) return append<float>(args, kv_head_begin, kv_head_end);
  append<uint16_t>(args, kv_head_begin, kv_head_end);
}

}  // namespace outrigger
