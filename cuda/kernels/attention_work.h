// A block's part of attention: scores, their softmax, and the values weighted so, of the rows it has.
#ifndef OUTRIGGER_CUDA_KERNELS_ATTENTION_WORK_H_
#define OUTRIGGER_CUDA_KERNELS_ATTENTION_WORK_H_

#include "cuda/kernels/attention_store.h"
#include "cuda/kernels/exp.h"
#include "cuda/kernels/launch.h"
#include "cuda/kernels/warp.h"

namespace outrigger::cuda {

inline constexpr uint32_t kPart = kPartPositions;
inline constexpr uint32_t kSoftBlock = kPositionBlock;
inline constexpr uint32_t kSoftBlocks = kPart / kSoftBlock;
/// A thread has the scores of two positions.
inline constexpr uint32_t kPartThreads = kPart / 2;

/// What the kernels are given.
struct AttentionJob {
  AttentionArgs args;
  Varying first_position;
  uint32_t row_blocks = 0;
  uint32_t parts = 0;          ///< of the grid; 0: each block has them all
  float* results = nullptr;    ///< [parts][kv_heads][rows] results of src/kernels/attention_rows.h
  uint32_t result_floats = 0;  ///< of one

  OTR_DEVICE uint32_t group() const { return static_cast<uint32_t>(args.heads) / static_cast<uint32_t>(args.kv_heads); }
  OTR_DEVICE uint32_t rows() const { return static_cast<uint32_t>(args.tokens) * group(); }
  OTR_DEVICE uint32_t positions_of(uint32_t row) const {
    return (first_position.at != nullptr ? *first_position.at : first_position.value) + row / group() + 1;
  }
  OTR_DEVICE size_t row_offset(uint32_t kv_head, uint32_t row, size_t stride) const {
    return row / group() * stride + (size_t{kv_head} * group() + row % group()) * args.head_dim;
  }
  OTR_DEVICE float* result(uint32_t part, uint32_t kv_head, uint32_t row) const {
    return results + ((part * args.kv_heads + kv_head) * rows() + row) * result_floats;
  }
};

/// kRows rows' scores are one thread's work, and kGroups such groups of rows the block's.
template <typename Store, uint32_t kRows, uint32_t kGroups>
class AttentionWork {
 public:
  OTR_DEVICE explicit AttentionWork(const AttentionJob& job)
      : job_(job),
        head_dim_(static_cast<uint32_t>(job.args.head_dim)),
        kv_head_(block_y()),
        row_begin_((job.row_blocks - 1 - block_x() / (job.parts == 0 ? 1 : job.parts)) * kBlockRows),  // those with the most to see first
        rows_(job.rows() - row_begin_ < kBlockRows ? job.rows() - row_begin_ : kBlockRows),
        positions_(job.positions_of(row_begin_ + rows_ - 1)),
        store_(static_cast<const std::byte*>(job.args.k_cache) + head_offset(),
               static_cast<const std::byte*>(job.args.v_cache) + head_offset(), head_dim_),
        scores_(reinterpret_cast<float*>(dynamic_shared())),
        queries_(reinterpret_cast<typename Store::Word*>(scores_ + kBlockRows * kPart)),
        states_(shared_states()) {}

  OTR_DEVICE void run() {
    const bool is_split = job_.parts != 0;
    const uint32_t begin = is_split ? block_x() % job_.parts : 0;
    const uint32_t end = is_split ? begin + 1 : (positions_ + kPart - 1) / kPart;
    if (begin * kPart >= positions_) return;
    load_queries();
    for (uint32_t part = begin; part < end; ++part) {
      sync_block();
      score(part);
      sync_block();
      for (uint32_t r = thread_index() / kWarp; r < rows_; r += kThreads / kWarp) soften(part, r);
      sync_block();
      add_values(part);
    }
  }

 private:
  static constexpr uint32_t kBlockRows = kRows * kGroups, kThreads = kPartThreads * kGroups;
  static constexpr uint32_t kValueRows = kBlockRows < 2 ? 1 : 2, kWidth = Store::kWidth;

  /// A row's softmax: of the part at work, and of all parts so far.
  struct State {
    float query_scale;
    float shrinks[kSoftBlocks];  ///< what is summed before each block of positions is multiplied with
    float max, total;            ///< of all parts
    float earlier, later;        ///< what the sums of parts before and of this one are multiplied with
  };
  OTR_DEVICE static State* shared_states() {
    OTR_SHARED State states[kBlockRows];
    return states;
  }

  OTR_DEVICE uint64_t head_offset() const { return kv_head_offset(job_.args.type, head_dim_, job_.args.capacity, block_y()); }

  /// Positions of the part that row r of the block sees.
  OTR_DEVICE uint32_t seen(uint32_t part, uint32_t r) const {
    if (r >= rows_) return 0;
    const uint32_t positions = job_.positions_of(row_begin_ + r), first = part * kPart;
    return positions <= first ? 0 : positions - first < kPart ? positions - first : kPart;
  }

  OTR_DEVICE void load_queries() {
    for (uint32_t r = thread_index() / kWarp; r < kBlockRows; r += kThreads / kWarp) {
      const float* const q = job_.args.q + job_.row_offset(kv_head_, row_begin_ + (r < rows_ ? r : 0), job_.args.q_stride);
      const float scale = Store::load_query(q, job_.args.scale, head_dim_, queries_ + r, kBlockRows);
      if (thread_index() % kWarp == 0) states_[r].query_scale = scale;
    }
  }

  OTR_DEVICE void score(uint32_t part) {
    const uint32_t first_row = thread_index() / kPartThreads * kRows, p = thread_index() % kPartThreads * 2;
    if (p >= seen(part, rows_ - 1)) return;
    float scores[kRows][2] = {}, scales[kRows];
    OTR_UNROLL
    for (uint32_t r = 0; r < kRows; ++r) scales[r] = states_[first_row + r].query_scale;
    store_.template score<kRows, kBlockRows>(size_t{part} * kPart + p, queries_ + first_row, scales, scores);
    OTR_UNROLL
    for (uint32_t r = 0; r < kRows; ++r) {
      *reinterpret_cast<Several<float, 2>*>(scores_ + (first_row + r) * kPart + p) = {{scores[r][0], scores[r][1]}};
    }
  }

  /// A warp: row r's scores become weights, relative to the largest score so far at each block of positions.
  OTR_DEVICE void soften(uint32_t part, uint32_t r) {
    constexpr float kNothing = -INFINITY;
    const uint32_t count = seen(part, r), lane = thread_index() % kWarp;
    if (count == 0) return;
    float* const scores = scores_ + r * kPart;
    float largest[kSoftBlocks], shrinks[kSoftBlocks];
    OTR_UNROLL
    for (uint32_t b = 0; b < kSoftBlocks; ++b) {
      largest[b] = kNothing;
      OTR_UNROLL
      for (uint32_t p = b * kSoftBlock; p < (b + 1) * kSoftBlock; p += kWarp) {
        if (p + lane < count) largest[b] = fmaxf(largest[b], scores[p + lane]);
      }
    }
    OTR_UNROLL
    for (uint32_t mask = kWarp / 2; mask > 0; mask /= 2) {
      OTR_UNROLL
      for (uint32_t b = 0; b < kSoftBlocks; ++b) largest[b] = fmaxf(largest[b], shuffle_xor(largest[b], mask));
    }
    float max = kNothing;
    OTR_UNROLL
    for (uint32_t b = 0; b < kSoftBlocks; ++b) {
      const float before = max;
      max = fmaxf(before, largest[b]);
      shrinks[b] = max == before ? 1 : exp_of(before - max);
      OTR_UNROLL
      for (uint32_t p = b * kSoftBlock; p < (b + 1) * kSoftBlock; p += kWarp) {
        if (p + lane < count) scores[p + lane] = exp_of(scores[p + lane] - max);
      }
    }
    sync_warp();
    const float total = sum_weights(scores, count, shrinks);
    if (lane == 0) keep(part, r, shrinks, max, total);
  }

  /// Weights are summed by lane of the position, and the lanes folded. No weight is -0, so that adding 0 for none changes nothing.
  OTR_DEVICE static float sum_weights(const float* weights, uint32_t count, const float (&shrinks)[kSoftBlocks]) {
    float sum = 0;
    OTR_UNROLL
    for (uint32_t b = 0; b < kSoftBlocks; ++b) {
      if (b * kSoftBlock >= count) break;
      sum *= shrinks[b];
      OTR_UNROLL
      for (uint32_t i = 0; i < kSoftBlock; i += kKvInterleave) {
        const uint32_t p = b * kSoftBlock + i + thread_index() % kKvInterleave;
        sum += p < count ? weights[p] : 0;
      }
    }
    return fold_lanes(sum, kKvInterleave);
  }

  OTR_DEVICE void keep(uint32_t part, uint32_t r, const float (&shrinks)[kSoftBlocks], float max, float total) {
    State& state = states_[r];
    OTR_UNROLL
    for (uint32_t b = 0; b < kSoftBlocks; ++b) state.shrinks[b] = shrinks[b];
    if (job_.parts != 0) {
      float* const result = job_.result(part, kv_head_, row_begin_ + r);
      result[0] = max, result[1] = total;
    } else if (part == 0) {
      state.max = max, state.total = total;
    } else {
      const float new_max = fmaxf(state.max, max);
      state.earlier = exp_of(state.max - new_max), state.later = exp_of(max - new_max);
      state.max = new_max;
      state.total = fmaf(state.total, state.earlier, total * state.later);
    }
  }

  /// kWidth elements of kValueRows rows a thread.
  OTR_DEVICE void add_values(uint32_t part) {
    const uint32_t columns = head_dim_ / kWidth, items = columns * (kBlockRows / kValueRows);
    for (uint32_t item = thread_index(); item < items; item += kThreads) {
      const uint32_t first_row = item / columns * kValueRows, d = item % columns * kWidth;
      uint32_t counts[kValueRows], common = kPart, most = 0;
      OTR_UNROLL
      for (uint32_t r = 0; r < kValueRows; ++r) {
        counts[r] = seen(part, first_row + r);
        common = counts[r] < common ? counts[r] : common;
        most = counts[r] < most ? most : counts[r];
      }
      float sums[kValueRows][kWidth] = {};
      for (uint32_t begin = 0; begin < most; begin += kSoftBlock) {
        OTR_UNROLL
        for (uint32_t r = 0; r < kValueRows; ++r) {
          OTR_UNROLL
          for (uint32_t i = 0; i < kWidth; ++i) sums[r][i] *= states_[first_row + r].shrinks[begin / kSoftBlock];
        }
        // Rows of later tokens see a few positions more: those they add alone, so that no row touches what it does not see.
        const uint32_t end = begin + kSoftBlock, together = common < begin ? begin : common < end ? common : end;
        add_range<0, kValueRows>(part, begin, together, first_row, d, sums);
        OTR_UNROLL
        for (uint32_t r = 0; r < kValueRows; ++r) add_one_row(part, together, counts[r] < end ? counts[r] : end, first_row, d, r, sums);
      }
      OTR_UNROLL
      for (uint32_t r = 0; r < kValueRows; ++r) {
        if (counts[r] > 0) store(part, first_row + r, d, sums[r]);
      }
    }
  }

  OTR_DEVICE void add_one_row(uint32_t part, uint32_t begin, uint32_t end, uint32_t first_row, uint32_t d, uint32_t r,
                              float (&sums)[kValueRows][kWidth]) const {
    if (begin >= end) return;
    if (r == 0) add_range<0, 1>(part, begin, end, first_row, d, sums);
    if (kValueRows > 1 && r == 1) add_range<kValueRows - 1, kValueRows>(part, begin, end, first_row, d, sums);
  }

  /// Positions [begin, end) of the part, in order, to rows [kFirst, kEnd).
  template <uint32_t kFirst, uint32_t kEnd>
  OTR_DEVICE void add_range(uint32_t part, uint32_t begin, uint32_t end, uint32_t first_row, uint32_t d,
                            float (&sums)[kValueRows][kWidth]) const {
    const size_t first = size_t{part} * kPart;
    for (uint32_t p = begin; p < end; p += kInFlight) {
      typename Store::Loaded loaded[kInFlight];
      OTR_UNROLL
      for (uint32_t i = 0; i < kInFlight; ++i) loaded[i] = store_.load(first + (p + i < end ? p + i : end - 1), d);
      OTR_UNROLL
      for (uint32_t i = 0; i < kInFlight; ++i) {
        if (p + i >= end) break;
        OTR_UNROLL
        for (uint32_t r = kFirst; r < kEnd; ++r) Store::add(scores_[(first_row + r) * kPart + p + i], loaded[i], sums[r]);
      }
    }
  }

  OTR_DEVICE void store(uint32_t part, uint32_t r, uint32_t d, const float (&sums)[kWidth]) {
    const uint32_t row = row_begin_ + r;
    const State& state = states_[r];
    const bool is_split = job_.parts != 0, is_last = !is_split && job_.positions_of(row) <= (part + 1) * kPart;
    float* const dst =
        is_split ? job_.result(part, kv_head_, row) + kResultHead : job_.args.dst + job_.row_offset(kv_head_, row, job_.args.dst_stride);
    OTR_UNROLL
    for (uint32_t i = 0; i < kWidth; ++i) {
      float sum = sums[i];
      if (!is_split && part > 0) sum = fmaf(dst[d + i], state.earlier, sum * state.later);
      dst[d + i] = is_last ? sum * (1 / state.total) : sum;
    }
  }

  const AttentionJob& job_;
  const uint32_t head_dim_, kv_head_;
  const uint32_t row_begin_, rows_;
  const uint32_t positions_;  ///< that the last row sees
  const Store store_;
  float* const scores_;                  ///< [kBlockRows][kPart], then the weights
  typename Store::Word* const queries_;  ///< words of kBlockRows queries side by side
  State* const states_;
};

}  // namespace outrigger::cuda

#endif  // OUTRIGGER_CUDA_KERNELS_ATTENTION_WORK_H_
