// Attention: the definition.
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "src/kernels/attention_run.h"
#include "src/kernels/exp_ref.h"
#include "src/tensor/half.h"

namespace outrigger {
namespace {

float value_of(uint16_t half) { return f16_to_float(half); }
float value_of(float x) { return x; }

/// A head's float16 or float32 keys and values, and a query to meet them.
template <typename Element>
class PlainFloats {
 public:
  PlainFloats(const std::byte* keys, const std::byte* values, size_t head_dim)
      : keys_(reinterpret_cast<const Element*>(keys)), values_(reinterpret_cast<const Element*>(values)), head_dim_(head_dim) {}

  void load_query(const float* q, float scale) { q_ = q, scale_ = scale; }

  float score(size_t position) const {
    float dot = 0;
    for (size_t d = 0; d < head_dim_; ++d) dot = std::fma(q_[d] * scale_, value_of(keys_[key_index(position, d, head_dim_)]), dot);
    return dot;
  }

  void add_value(float weight, size_t position, float* sums) const {
    for (size_t d = 0; d < head_dim_; ++d) sums[d] = std::fma(weight, value_of(values_[position * head_dim_ + d]), sums[d]);
  }

 private:
  const Element* keys_;
  const Element* values_;
  size_t head_dim_;
  const float* q_ = nullptr;
  float scale_ = 0;
};

/// The same for q8_0: the query as 16-bit integers with one scale, integer products within a group, and the scales in float.
class PlainCodes {
 public:
  PlainCodes(const std::byte* keys, const std::byte* values, size_t head_dim) : keys_(keys), values_(values), head_dim_(head_dim) {}

  void load_query(const float* q, float scale) {
    q_ = q, scale_ = scale;
    uint32_t most = 0;
    for (size_t d = 0; d < head_dim_; ++d) most = std::max(most, std::bit_cast<uint32_t>(q[d] * scale) & 0x7fffffff);
    const float largest = std::bit_cast<float>(most);
    inverse_ = most < kInfinityBits && largest >= kLeastScaled ? kQueryCodes / largest : 0;
    code_scale_ = most < kInfinityBits ? largest / kQueryCodes : std::numeric_limits<float>::quiet_NaN();
  }

  float score(size_t position) const {
    const std::byte* const block = keys_ + position / kKvInterleave * q8_block_bytes(head_dim_);
    float total = 0;
    for (size_t group = 0; group < head_dim_; group += kKvGroup) {
      int32_t dot = 0;
      for (size_t d = group; d < group + kKvGroup; ++d) dot += code(block + q8_key_offset(position, d, head_dim_)) * query_code(d);
      total = std::fma(static_cast<float>(dot), scale(block + q8_scale_offset(position, group)), total);
    }
    return total * code_scale_;
  }

  void add_value(float weight, size_t position, float* sums) const {
    const std::byte* const block = values_ + position / kKvInterleave * q8_block_bytes(head_dim_);
    for (size_t group = 0; group < head_dim_; group += kKvGroup) {
      const float scaled = weight * scale(block + q8_scale_offset(position, group));
      for (size_t d = group; d < group + kKvGroup; ++d) {
        sums[d] = std::fma(scaled, static_cast<float>(code(block + q8_value_offset(position, d, head_dim_))), sums[d]);
      }
    }
  }

 private:
  static int32_t code(const std::byte* src) { return static_cast<int8_t>(*src); }
  static float scale(const std::byte* src) {
    uint16_t half;
    std::memcpy(&half, src, sizeof half);
    return f16_to_float(half);
  }
  // 0 where the query is not finite: code_scale_ spoils the score then.
  int32_t query_code(size_t d) const { return inverse_ == 0 ? 0 : static_cast<int32_t>(std::nearbyint(q_[d] * scale_ * inverse_)); }

  const std::byte* keys_;
  const std::byte* values_;
  size_t head_dim_;
  const float* q_ = nullptr;
  float scale_ = 0, inverse_ = 0, code_scale_ = 0;
};

/// Folds lanes, each with the one half of them further on, until one is left.
float sum_of_lanes(float (&lanes)[kKvInterleave]) {
  for (size_t half = kKvInterleave / 2; half > 0; half /= 2) {
    for (size_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

/// One row and one part: the largest score so far, weights relative to it summed by lane of the position, and values weighted so.
template <typename Store>
class PlainWork {
 public:
  PlainWork(const AttentionArgs& args, const AttentionUnit& unit, const AttentionScratch&)
      : args_(args),
        unit_(unit),
        store_(static_cast<const std::byte*>(args.k_cache) + kv_head_offset(args.type, args.head_dim, args.capacity, unit.kv_head),
               static_cast<const std::byte*>(args.v_cache) + kv_head_offset(args.type, args.head_dim, args.capacity, unit.kv_head),
               args.head_dim) {}

  void attend_part(size_t part, float* results) {
    for (size_t row = unit_.row_begin; row < unit_.row_end; ++row) {
      const size_t begin = part * kPartPositions, end = std::min(begin + kPartPositions, row_positions(args_, row));
      if (begin < end) attend_row(row, begin, end, results + (row - unit_.row_begin) * result_floats(args_.head_dim));
    }
  }

  static void fold(float* into, const float* from, size_t head_dim) {
    const float max_score = std::max(into[0], from[0]);
    const float earlier = exp_ref(into[0] - max_score), later = exp_ref(from[0] - max_score);
    into[0] = max_score;
    into[1] = std::fma(into[1], earlier, from[1] * later);
    for (size_t d = kResultHead; d < kResultHead + head_dim; ++d) into[d] = std::fma(into[d], earlier, from[d] * later);
  }

  static void finish(const float* result, float* dst, size_t head_dim) {
    const float inverse = 1 / result[1];
    for (size_t d = 0; d < head_dim; ++d) dst[d] = result[kResultHead + d] * inverse;
  }

 private:
  void attend_row(size_t row, size_t begin, size_t end, float* result) {
    store_.load_query(args_.q + row_offset(args_, unit_, row, args_.q_stride), args_.scale);
    float* sums = result + kResultHead;
    std::fill(sums, sums + args_.head_dim, 0.0f);
    float max_score = -std::numeric_limits<float>::infinity(), lanes[kKvInterleave] = {};
    for (size_t first = begin; first < end; first += kPositionBlock) {
      const size_t count = std::min(kPositionBlock, end - first);
      float scores[kPositionBlock], new_max = max_score;
      for (size_t p = 0; p < count; ++p) {
        scores[p] = store_.score(place_of(args_, row, first + p));
        new_max = std::max(new_max, scores[p]);
      }
      if (new_max != max_score) {
        const float shrink = exp_ref(max_score - new_max);
        for (float& lane : lanes) lane *= shrink;
        for (size_t d = 0; d < args_.head_dim; ++d) sums[d] *= shrink;
        max_score = new_max;
      }
      for (size_t p = 0; p < count; ++p) {
        const float weight = exp_ref(scores[p] - max_score);
        lanes[p % kKvInterleave] += weight;
        store_.add_value(weight, place_of(args_, row, first + p), sums);
      }
    }
    result[0] = max_score;
    result[1] = sum_of_lanes(lanes);
  }

  const AttentionArgs& args_;
  const AttentionUnit unit_;
  Store store_;
};

}  // namespace

void attention_ref(const AttentionArgs& args, const AttentionTask& task) {
  if (args.type == KvType::kF32) return run_attention<PlainWork<PlainFloats<float>>>(args, task);
  if (args.type == KvType::kQ8_0) return run_attention<PlainWork<PlainCodes>>(args, task);
  run_attention<PlainWork<PlainFloats<uint16_t>>>(args, task);
}

}  // namespace outrigger
