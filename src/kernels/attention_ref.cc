// Attention: the definition.
#include <algorithm>
#include <cmath>
#include <limits>

#include "src/kernels/attention_rows.h"
#include "src/kernels/exp_ref.h"
#include "src/tensor/half.h"

namespace outrigger {
namespace {

float value_of(uint16_t half) { return f16_to_float(half); }
float value_of(float x) { return x; }
void store(float x, uint16_t* dst) { *dst = float_to_f16(x); }
void store(float x, float* dst) { *dst = x; }

/// Softmax over the positions seen so far: weights relative to the largest score, their sum by lanes, and the weighted values.
struct RunningSoftmax {
  float max_score = -std::numeric_limits<float>::infinity();
  float weights[kKvInterleave] = {};  ///< position p adds to lane p % kKvInterleave
  float* sums;                        ///< [head_dim]

  void shrink(float new_max, size_t head_dim) {
    if (new_max == max_score) return;
    const float factor = exp_ref(max_score - new_max);
    for (float& weight : weights) weight *= factor;
    for (size_t d = 0; d < head_dim; ++d) sums[d] *= factor;
    max_score = new_max;
  }

  float weight_sum() const {
    float lanes[kKvInterleave];
    std::copy(std::begin(weights), std::end(weights), lanes);
    for (size_t half = kKvInterleave / 2; half > 0; half /= 2) {
      for (size_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
    }
    return lanes[0];
  }
};

template <typename Element>
float score(const AttentionArgs& args, const float* q, const Element* keys, size_t position) {
  float dot = 0;
  for (size_t d = 0; d < args.head_dim; ++d) {
    dot = std::fma(q[d] * args.scale, value_of(keys[key_index(position, d, args.head_dim)]), dot);
  }
  return dot;
}

template <typename Element>
void attend(const AttentionArgs& args, const AttentionItem& item, size_t row, float* sums) {
  const float* q = args.q + row_offset(args, item, row, args.q_stride);
  const Element* keys = static_cast<const Element*>(args.k_cache) + item.kv_head * args.capacity * args.head_dim;
  const Element* values = static_cast<const Element*>(args.v_cache) + item.kv_head * args.capacity * args.head_dim;

  RunningSoftmax softmax{.sums = sums};
  std::fill(sums, sums + args.head_dim, 0.0f);
  for (size_t first = 0; first < row_positions(args, row); first += kPositionBlock) {
    const size_t live = std::min(kPositionBlock, row_positions(args, row) - first);
    float scores[kPositionBlock], new_max = softmax.max_score;
    for (size_t p = 0; p < live; ++p) scores[p] = score(args, q, keys, first + p);
    for (size_t p = 0; p < live; ++p) new_max = std::max(new_max, scores[p]);
    softmax.shrink(new_max, args.head_dim);
    for (size_t p = 0; p < live; ++p) {
      const float weight = exp_ref(scores[p] - new_max);
      softmax.weights[p % kKvInterleave] += weight;
      for (size_t d = 0; d < args.head_dim; ++d) {
        sums[d] = std::fma(weight, value_of(values[(first + p) * args.head_dim + d]), sums[d]);
      }
    }
  }
  const float inverse = 1 / softmax.weight_sum();
  float* dst = args.dst + row_offset(args, item, row, args.dst_stride);
  for (size_t d = 0; d < args.head_dim; ++d) dst[d] = sums[d] * inverse;
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
  float* sums = reinterpret_cast<float*>(args.scratch + thread * args.scratch_stride_bytes);
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
