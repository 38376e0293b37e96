// A block's part of attention: scores, their softmax, and the values weighted so, of the rows it has.
#ifndef OUTRIGGER_CUDA_KERNELS_ATTENTION_WORK_H_
#define OUTRIGGER_CUDA_KERNELS_ATTENTION_WORK_H_

#include "cuda/kernels/attention_job.h"
#include "cuda/kernels/attention_softmax.h"
#include "cuda/kernels/attention_store.h"

namespace outrigger::cuda {

/// kRows rows' scores are one thread's work, and kGroups such groups of rows the block's. kIsTree: the tokens are a tree's, so that what a
/// row sees behind the root lies at places of its own.
template <typename Store, uint32_t kRows, uint32_t kGroups, bool kIsTree = false>
class AttentionWork {
 public:
  OTR_DEVICE explicit AttentionWork(const AttentionJob& job)
      : job_(job),
        head_dim_(static_cast<uint32_t>(job.args.head_dim)),
        kv_head_(block_y()),
        row_begin_((job.row_blocks - 1 - block_x() / (job.parts == 0 ? 1 : job.parts)) * kBlockRows),  // those with the most to see first
        rows_(job.rows - row_begin_ < kBlockRows ? job.rows - row_begin_ : kBlockRows),
        first_position_(job.first()),
        store_(static_cast<const std::byte*>(job.args.k_cache) + head_offset(), head_dim_),
        values_(static_cast<const std::byte*>(job.args.v_cache) + head_offset()),
        scores_(reinterpret_cast<float*>(dynamic_shared())),
        queries_(reinterpret_cast<typename Store::Word*>(scores_ + kBlockRows * kPart)),
        tile_(reinterpret_cast<U4*>(queries_ + (kBlockRows * head_dim_ + 3) / 4 * 4)),
        states_(shared_states()) {}

  OTR_DEVICE void run() {
    const bool is_split = job_.parts != 0;
    const uint32_t begin = is_split ? block_x() % job_.parts : 0;
    const uint32_t positions = positions_of(rows_ - 1), end = is_split ? begin + 1 : (positions + kPart - 1) / kPart;
    if (begin * kPart >= positions) return;
    load_queries();
    const uint32_t tile_positions = positions_of_tile();
    for (uint32_t part = begin; part < end; ++part) {
      sync_block();
      score(part);
      if constexpr (kIsTree) {
        sync_block();
        score_paths(part);
      }
      U4 ahead[kTileWords];
      if (kCanStage && tile_positions > 0) load_tile(part, 0, tile_positions, ahead);
      sync_block();
      for (uint32_t r = thread_index() / kWarp; r < rows_; r += kThreads / kWarp) soften(part, r);
      sync_block();
      if (kCanStage && tile_positions > 0) {
        add_staged_values(part, tile_positions, ahead);
      } else {
        for (uint32_t item = thread_index(); item < items(); item += kThreads) {
          if constexpr (kIsTree) {
            add_values_of_paths(part, item);
          } else {
            add_values(part, item);
          }
        }
      }
    }
  }

 private:
  static constexpr uint32_t kBlockRows = kRows * kGroups, kThreads = kPartThreads * kGroups;
  static constexpr uint32_t kValueRows = kBlockRows < 2 ? 1 : 2, kWidth = Store::kWidth;
  static constexpr uint32_t kBlock = kKvInterleave;  ///< positions that the cache keeps together
  static constexpr bool kCanStage = kBlockRows <= kFewRows && !kIsTree;
  static constexpr uint32_t kTileWords = kTileBytes / sizeof(U4) / kThreads;

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

  OTR_DEVICE uint32_t positions_of(uint32_t r) const {
    return kIsTree ? job_.positions(row_begin_ + r, true) : first_position_ + (row_begin_ + r) / job_.group + 1;
  }
  OTR_DEVICE uint32_t block_bytes() const { return static_cast<uint32_t>(kv_block_bytes(Store::kType, head_dim_)); }
  OTR_DEVICE uint64_t head_offset() const { return kv_head_offset(Store::kType, head_dim_, job_.args.capacity, block_y()); }

  /// Positions of the part that row r of the block sees.
  OTR_DEVICE uint32_t seen(uint32_t part, uint32_t r) const {
    if (r >= rows_) return 0;
    const uint32_t positions = positions_of(r), first = part * kPart;
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

  /// Positions of the part that lie before a tree's root, where all rows see the same.
  OTR_DEVICE uint32_t straight(uint32_t part) const {
    const uint32_t first = part * kPart;
    return first_position_ <= first ? 0 : first_position_ - first < kPart ? first_position_ - first : kPart;
  }
  /// Where in the cache lies what row r sees at the position, which is the root's or one behind it.
  OTR_DEVICE size_t place_of(uint32_t r, uint32_t position) const {
    const AttentionArgs& args = job_.args;
    return first_position_ + args.tree->on_path(args.tree_begin + (row_begin_ + r) / job_.group, position - first_position_);
  }

  /// Scores of the root and what is behind it, each row's at its own places: instead of those that score() has of the places in order.
  OTR_DEVICE void score_paths(uint32_t part) {
    const uint32_t begin = straight(part), first = part * kPart;
    for (uint32_t item = thread_index(); item < rows_ * uint32_t{kMostTreeTokens}; item += kThreads) {
      const uint32_t r = item / uint32_t{kMostTreeTokens}, p = begin + item % uint32_t{kMostTreeTokens};
      if (p >= seen(part, r)) continue;
      const size_t place = place_of(r, first + p);
      const float scale[1] = {states_[r].query_scale};
      float scores[1][2] = {};
      store_.template score<1, kBlockRows>(place / 2 * 2, queries_ + r, scale, scores);
      scores_[r * kPart + p] = place % 2 == 0 ? scores[0][0] : scores[0][1];
    }
  }

  OTR_DEVICE void soften(uint32_t part, uint32_t r) {
    const uint32_t count = seen(part, r);
    if (count == 0) return;
    const PartSoftmax softmax = soften_part(scores_ + r * kPart, count);
    if (thread_index() % kWarp != 0) return;
    State& state = states_[r];
    OTR_UNROLL
    for (uint32_t b = 0; b < kSoftBlocks; ++b) state.shrinks[b] = softmax.shrinks[b];
    if (job_.parts != 0) {
      float* const result = job_.result(part, kv_head_, row_begin_ + r);
      result[0] = softmax.max, result[1] = softmax.total;
    } else if (part == 0) {
      state.max = softmax.max, state.total = softmax.total;
    } else {
      const float max = fmaxf(state.max, softmax.max);
      state.earlier = exp_of(state.max - max), state.later = exp_of(softmax.max - max);
      state.max = max;
      state.total = fmaf(state.total, state.earlier, softmax.total * state.later);
    }
  }

  /// What a thread sums of a part: kWidth elements of kValueRows rows.
  struct Item {
    uint32_t first_row, d;
    uint32_t counts[kValueRows];  ///< positions that the rows see
    uint32_t common, most;        ///< the least and the largest of them
    float sums[kValueRows][kWidth];
  };
  OTR_DEVICE uint32_t items() const { return head_dim_ / kWidth * (kBlockRows / kValueRows); }

  OTR_DEVICE Item item_at(uint32_t part, uint32_t i) const {
    const uint32_t columns = head_dim_ / kWidth;
    Item item{i / columns * kValueRows, i % columns * kWidth, {}, kPart, 0, {}};
    OTR_UNROLL
    for (uint32_t r = 0; r < kValueRows; ++r) {
      item.counts[r] = seen(part, item.first_row + r);
      item.common = item.counts[r] < item.common ? item.counts[r] : item.common;
      item.most = item.counts[r] < item.most ? item.most : item.counts[r];
    }
    return item;
  }

  OTR_DEVICE void add_values(uint32_t part, uint32_t i) {
    Item item = item_at(part, i);
    const std::byte* const values = values_ + size_t{part} * (kPart / kBlock) * block_bytes();
    for (uint32_t begin = 0; begin < item.most; begin += kSoftBlock) {
      shrink(item, begin);
      add_all(item, values, begin, begin + kSoftBlock, 0);
    }
    store(part, item);
  }

  /// The same of a tree: behind the root each row by itself, in the order of its positions.
  OTR_DEVICE void add_values_of_paths(uint32_t part, uint32_t i) {
    Item item = item_at(part, i);
    const std::byte* const values = values_ + size_t{part} * (kPart / kBlock) * block_bytes();
    const uint32_t in_order = straight(part);
    for (uint32_t begin = 0; begin < item.most; begin += kSoftBlock) {
      const uint32_t end = begin + kSoftBlock, turn = in_order < begin ? begin : in_order < end ? in_order : end;
      shrink(item, begin);
      add_all(item, values, begin, turn, 0);
      OTR_UNROLL
      for (uint32_t r = 0; r < kValueRows; ++r) {
        const uint32_t row = item.first_row + r;
        for (uint32_t p = turn; p < end && p < item.counts[r]; ++p) {
          const size_t place = place_of(row, part * kPart + p);
          Store::add(scores_[row * kPart + p], store_.load(values_, place, item.d), item.sums[r]);
        }
      }
    }
    store(part, item);
  }

  /// Positions of a tile, a divisor of kSoftBlock; 0 where a block of positions is larger than a tile or the threads are too few.
  OTR_DEVICE uint32_t positions_of_tile() const {
    if (!kCanStage || items() > kThreads) return 0;
    uint32_t positions = kSoftBlock;
    while (positions >= kBlock && positions / kBlock * block_bytes() > kTileBytes) positions /= 2;
    return positions < kBlock ? 0 : positions;
  }

  /// The thread's words of the values of positions [begin, begin + count) of the part.
  OTR_DEVICE void load_tile(uint32_t part, uint32_t begin, uint32_t count, U4 (&words)[kTileWords]) const {
    const uint32_t all = seen(part, rows_ - 1), live = all < begin ? 0 : all - begin < count ? all - begin : count;
    const uint32_t live_words = (live + kBlock - 1) / kBlock * (block_bytes() / uint32_t{sizeof(U4)});
    const U4* const src = reinterpret_cast<const U4*>(values_ + size_t{(part * kPart + begin) / kBlock} * block_bytes());
    OTR_UNROLL
    for (uint32_t i = 0; i < kTileWords; ++i) {
      const uint32_t word = i * kThreads + thread_index();
      if (word < live_words) words[i] = load_once(src + word);
    }
  }

  /// add_values() of one item a thread, with tile after tile in shared memory and the next one on its way.
  OTR_DEVICE void add_staged_values(uint32_t part, uint32_t tile_positions, U4 (&ahead)[kTileWords]) {
    const uint32_t all = seen(part, rows_ - 1);
    Item item = item_at(part, thread_index());
    for (uint32_t begin = 0; begin < all; begin += tile_positions) {
      sync_block();
      OTR_UNROLL
      for (uint32_t i = 0; i < kTileWords; ++i) tile_[i * kThreads + thread_index()] = ahead[i];
      sync_block();
      load_tile(part, begin + tile_positions, tile_positions, ahead);
      if (thread_index() >= items() || begin >= item.most) continue;
      if (begin % kSoftBlock == 0) shrink(item, begin);
      add_all(item, reinterpret_cast<const std::byte*>(tile_), begin, begin + tile_positions, begin);
    }
    if (thread_index() < items()) store(part, item);
  }

  OTR_DEVICE void shrink(Item& item, uint32_t begin) const {
    OTR_UNROLL
    for (uint32_t r = 0; r < kValueRows; ++r) {
      OTR_UNROLL
      for (uint32_t i = 0; i < kWidth; ++i) item.sums[r][i] *= states_[item.first_row + r].shrinks[begin / kSoftBlock];
    }
  }

  /// Positions [begin, end) of the part that the rows see; `values` begins with position `first`. Rows of later tokens see a few more:
  /// those they add alone, so that no row touches what it does not see.
  OTR_DEVICE void add_all(Item& item, const std::byte* values, uint32_t begin, uint32_t end, uint32_t first) const {
    const uint32_t together = item.common < begin ? begin : item.common < end ? item.common : end;
    add_range<0, kValueRows>(item, values, begin, together, first);
    if (together < item.counts[0]) add_range<0, 1>(item, values, together, item.counts[0] < end ? item.counts[0] : end, first);
    if constexpr (kValueRows > 1) {
      if (together < item.counts[1]) add_range<1, 2>(item, values, together, item.counts[1] < end ? item.counts[1] : end, first);
    }
  }

  /// Those of rows [kFirst, kEnd), in order.
  template <uint32_t kFirst, uint32_t kEnd>
  OTR_DEVICE void add_range(Item& item, const std::byte* values, uint32_t begin, uint32_t end, uint32_t first) const {
    uint32_t p = begin;
    for (; p + kInFlight <= end; p += kInFlight) add_some<kInFlight, kFirst, kEnd>(item, values, p, first);
    for (; p < end; ++p) add_some<1, kFirst, kEnd>(item, values, p, first);
  }

  /// kCount positions from p on. All that is read is on its way before the first is added: a read of shared memory takes as long as seven
  /// additions.
  template <uint32_t kCount, uint32_t kFirst, uint32_t kEnd>
  OTR_DEVICE void add_some(Item& item, const std::byte* values, uint32_t p, uint32_t first) const {
    typename Store::Loaded loaded[kCount];
    float weights[kEnd - kFirst][kCount];
    OTR_UNROLL
    for (uint32_t i = 0; i < kCount; ++i) {
      loaded[i] = store_.load(values, p + i - first, item.d);
      OTR_UNROLL
      for (uint32_t r = kFirst; r < kEnd; ++r) weights[r - kFirst][i] = scores_[(item.first_row + r) * kPart + p + i];
    }
    OTR_UNROLL
    for (uint32_t i = 0; i < kCount; ++i) {
      OTR_UNROLL
      for (uint32_t r = kFirst; r < kEnd; ++r) Store::add(weights[r - kFirst][i], loaded[i], item.sums[r]);
    }
  }

  OTR_DEVICE void store(uint32_t part, const Item& item) {
    OTR_UNROLL
    for (uint32_t r = 0; r < kValueRows; ++r) {
      if (item.counts[r] > 0) store(part, item.first_row + r, item.d, item.sums[r]);
    }
  }

  OTR_DEVICE void store(uint32_t part, uint32_t r, uint32_t d, const float (&sums)[kWidth]) {
    const uint32_t row = row_begin_ + r;
    const State& state = states_[r];
    const bool is_split = job_.parts != 0, is_last = !is_split && positions_of(r) <= (part + 1) * kPart;
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
  const uint32_t first_position_;  ///< of token 0
  const Store store_;
  const std::byte* const values_;
  float* const scores_;                  ///< [kBlockRows][kPart], then the weights
  typename Store::Word* const queries_;  ///< words of kBlockRows queries side by side
  U4* const tile_;                       ///< kTileBytes of values, where they are staged
  State* const states_;
};

}  // namespace outrigger::cuda

#endif  // OUTRIGGER_CUDA_KERNELS_ATTENTION_WORK_H_
