// Attention: the definition.
#include <cmath>
#include <limits>

#include "src/kernels/attention_run.h"
#include "src/kernels/exp_ref.h"
#include "src/tensor/half.h"

namespace outrigger {
namespace {

float value_of(uint16_t half) { return f16_to_float(half); }
float value_of(float x) { return x; }

/// Folds lanes, each with the one half of them further on, until one is left.
float sum_of_lanes(float (&lanes)[kKvInterleave]) {
  for (size_t half = kKvInterleave / 2; half > 0; half /= 2) {
    for (size_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

/// One row and one part: the largest score so far, weights relative to it summed by lane of the position, and values weighted so.
template <typename Element>
class PlainWork {
 public:
  PlainWork(const AttentionArgs& args, const AttentionUnit& unit, const AttentionScratch&)
      : args_(args),
        unit_(unit),
        keys_(static_cast<const Element*>(args.k_cache) + unit.kv_head * args.capacity * args.head_dim),
        values_(static_cast<const Element*>(args.v_cache) + unit.kv_head * args.capacity * args.head_dim) {}

  void attend_part(size_t part, float* results) const {
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
  void attend_row(size_t row, size_t begin, size_t end, float* result) const {
    const float* q = args_.q + row_offset(args_, unit_, row, args_.q_stride);
    float* sums = result + kResultHead;
    std::fill(sums, sums + args_.head_dim, 0.0f);
    float max_score = -std::numeric_limits<float>::infinity(), lanes[kKvInterleave] = {};
    for (size_t first = begin; first < end; first += kPositionBlock) {
      const size_t count = std::min(kPositionBlock, end - first);
      float scores[kPositionBlock], new_max = max_score;
      for (size_t p = 0; p < count; ++p) {
        scores[p] = score(q, first + p);
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
        add_value(weight, first + p, sums);
      }
    }
    result[0] = max_score;
    result[1] = sum_of_lanes(lanes);
  }

  float score(const float* q, size_t position) const {
    float dot = 0;
    for (size_t d = 0; d < args_.head_dim; ++d) {
      dot = std::fma(q[d] * args_.scale, value_of(keys_[key_index(position, d, args_.head_dim)]), dot);
    }
    return dot;
  }

  void add_value(float weight, size_t position, float* sums) const {
    for (size_t d = 0; d < args_.head_dim; ++d) sums[d] = std::fma(weight, value_of(values_[position * args_.head_dim + d]), sums[d]);
  }

  const AttentionArgs& args_;
  const AttentionUnit unit_;
  const Element* const keys_;
  const Element* const values_;
};

}  // namespace

void attention_ref(const AttentionArgs& args, const AttentionTask& task) {
  if (args.type == KvType::kF32) return run_attention<PlainWork<float>>(args, task);
  run_attention<PlainWork<uint16_t>>(args, task);
}

}  // namespace outrigger
