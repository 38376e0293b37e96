// Attention as the vector versions share it, over a type V of small vector operations (attention_avx2.cc, attention_avx512.cc) and
// tiles for what the cache holds: scores by lanes of positions, outputs by lanes of elements.
#ifndef OUTRIGGER_SRC_KERNELS_ATTENTION_VECTOR_H_
#define OUTRIGGER_SRC_KERNELS_ATTENTION_VECTOR_H_

#include <array>
#include <limits>
#include <utility>

#include "src/kernels/attention_run.h"
#include "src/kernels/attention_tiles.h"
#include "src/kernels/attention_tiles_q8.h"

// V has internal linkage in each of its files, and through it so has everything here: no version can be taken for another's.
namespace outrigger {

/// One unit at work. Tiles are FloatTiles or CodeTiles.
template <typename V, typename Tiles>
class AttentionWork {
 public:
  using Float = typename V::Float;
  static constexpr size_t kLanes = V::kLanes;

  AttentionWork(const AttentionArgs& args, const AttentionUnit& unit, const AttentionScratch& scratch)
      : args_(args), unit_(unit), rows_(unit_.row_end - unit_.row_begin), scratch_(scratch) {
    const uint64_t head = kv_head_offset(args.type, args.head_dim, args.capacity, unit.kv_head);
    keys_ = static_cast<const std::byte*>(args.k_cache) + head;
    values_ = static_cast<const std::byte*>(args.v_cache) + head;
    block_.head_dim = args.head_dim, block_.padded_dim = padded_dim(args.head_dim);
    block_.queries = scratch.queries, block_.scores = scratch.scores;
    const Float scale = V::set1(args_.scale);
    for (size_t r = 0; r < rows_; ++r) {
      const float* q = args_.q + row_offset(args_, unit_, unit_.row_begin + r, args_.q_stride);
      float* query = scratch_.queries + r * block_.padded_dim;
      for (size_t d = 0; d < block_.padded_dim; d += kLanes) {
        const Float x = d < args.head_dim ? V::load_some(q + d, args.head_dim - d) : V::zero();
        V::store(query + d, V::mul(x, scale));
      }
      Tiles::load_query(query, args.head_dim);
    }
  }

  void attend_part(size_t part, float* results) {
    block_.results = results;
    const size_t first_row = first_seeing<AttentionWork>(args_, unit_, part);
    const size_t begin = part * kPartPositions;
    const size_t end = std::min(begin + kPartPositions, row_positions(args_, unit_.row_end - 1));
    for (size_t r = first_row; r < rows_; ++r) begin_row(r);
    if (args_.tree != nullptr && end > args_.first_position) score_tree(first_row);
    const size_t positions = row_positions(args_, unit_.row_end - 1);
    for (size_t first = begin; first < end; first += kPositionBlock) {
      const uint64_t offset = kv_head_offset(args_.type, block_.head_dim, first, 1);
      block_.keys = keys_ + offset, block_.values = values_ + offset;
      block_.ahead_bytes = first + kPositionBlock < positions ? kv_head_offset(args_.type, block_.head_dim, kPositionBlock, 1) : 0;
      attend_block(first);
    }
    for (size_t r = first_row; r < rows_; ++r) end_row(r);
  }

  static void fold(float* into, const float* from, size_t head_dim) {
    const float max_score = std::max(into[0], from[0]);
    const Float earlier = V::exp(V::set1(into[0] - max_score)), later = V::exp(V::set1(from[0] - max_score));
    const auto folded = [&](Float a, Float b) { return V::fma(a, earlier, V::mul(b, later)); };
    into[0] = max_score;
    V::store_some(into + 1, 1, folded(V::set1(into[1]), V::set1(from[1])));
    for (size_t d = kResultHead; d < kResultHead + head_dim; d += kLanes) V::store(into + d, folded(V::load(into + d), V::load(from + d)));
  }

  static void finish(const float* result, float* dst, size_t head_dim) {
    const Float inverse = V::set1(1 / result[1]);
    for (size_t d = 0; d < head_dim; d += kLanes) V::store_some(dst + d, head_dim - d, V::mul(V::load(result + kResultHead + d), inverse));
  }

 private:
  // While a part is attended, a result's head holds the sums of the weights by lane.
  float* weights(size_t r) const { return block_.sums(r) - kResultHead; }

  void begin_row(size_t r) const {
    for (size_t d = 0; d < kResultHead + block_.padded_dim; d += kLanes) V::store(weights(r) + d, V::zero());
    scratch_.maxima[r * 16] = -std::numeric_limits<float>::infinity();
  }

  void end_row(size_t r) const {
    Float total = V::load(weights(r));
    for (size_t i = kLanes; i < kKvInterleave; i += kLanes) total = V::add(total, V::load(weights(r) + i));
    weights(r)[0] = scratch_.maxima[r * 16];
    weights(r)[1] = V::reduce_add(total);
  }

  // Positions of the block at `first` that row r sees.
  size_t seen(size_t r, size_t first) const {
    const size_t positions = row_positions(args_, unit_.row_begin + r);
    return positions > first ? std::min(kPositionBlock, positions - first) : 0;
  }

  // One position block, for those rows of the unit that see any of it.
  void attend_block(size_t first) {
    size_t begin = 0;  // rows are in order of what they see
    while (seen(begin, first) == 0) ++begin;

    const size_t vectors = kKvInterleave / kLanes * ((seen(rows_ - 1, first) + kKvInterleave - 1) / kKvInterleave);
    for (size_t r = begin; r < rows_; r += V::kScoreRows) {
      kScore[std::min<size_t>(V::kScoreRows, rows_ - r) - 1](block_, vectors, r);
    }
    if (args_.tree != nullptr) {
      for (size_t r = begin; r < rows_; ++r) take_tree_scores(r, first);
    }
    for (size_t r = begin; r < rows_; ++r) soften(r, seen(r, first));

    // Rows of later tokens see a few positions more than the first one; those they add alone, so that no row touches what it does not see.
    const size_t common = std::min(seen(begin, first), tree_begin(first));
    for (size_t r = begin; r < rows_; r += Tiles::kValueRows) {
      kAdd[std::min<size_t>(Tiles::kValueRows, rows_ - r) - 1](block_, 0, common, r);
    }
    for (size_t r = begin; r < rows_; ++r) {
      if (seen(r, first) <= common) continue;
      if (args_.tree == nullptr) {
        add_values<1>(block_, common, seen(r, first), r);
      } else {
        add_tree_values(r, first, common);
      }
    }
  }

  // What rows see of a tree lies at places of its own, and a score's bits are the same wherever its key lies. So the scores of all places
  // are computed at once, and each row takes those of its positions.
  void score_tree(size_t first_row) {
    tree_.head_dim = block_.head_dim, tree_.padded_dim = block_.padded_dim;
    tree_.queries = block_.queries, tree_.scores = tree_scores_, tree_.results = block_.results;
    const uint64_t offset = kv_head_offset(args_.type, block_.head_dim, tree_first(), 1);
    tree_.keys = keys_ + offset, tree_.values = values_ + offset;
    const size_t places = args_.first_position + args_.tree_begin + args_.tokens - tree_first();
    const size_t vectors = kKvInterleave / kLanes * ((places + kKvInterleave - 1) / kKvInterleave);
    for (size_t r = first_row; r < rows_; r += V::kScoreRows) {
      kScore[std::min<size_t>(V::kScoreRows, rows_ - r) - 1](tree_, vectors, r);
    }
  }

  // Of the tree's block the first place, and of the block at `first` those positions that are before the tree.
  size_t tree_first() const { return args_.first_position / kKvInterleave * kKvInterleave; }
  size_t tree_begin(size_t first) const {
    if (args_.tree == nullptr || args_.first_position >= first + kPositionBlock) return kPositionBlock;
    return args_.first_position > first ? args_.first_position - first : 0;
  }
  size_t tree_place(size_t r, size_t position) const { return place_of(args_, unit_.row_begin + r, position) - tree_first(); }

  void take_tree_scores(size_t r, size_t first) {
    for (size_t p = tree_begin(first); p < seen(r, first); ++p) block_.scores_of(r)[p] = tree_.scores_of(r)[tree_place(r, first + p)];
  }

  // One after the other: neighbours of a path need not lie side by side.
  void add_tree_values(size_t r, size_t first, size_t begin) {
    for (size_t p = begin; p < seen(r, first); ++p) {
      const size_t place = tree_place(r, first + p);
      tree_.scores_of(r)[place] = block_.scores_of(r)[p];
      add_values<1>(tree_, place, place + 1, r);
    }
  }

  // Few rows take more positions at once: a chain of additions has to wait 4 cycles for itself, and there are two adders to keep busy.
  template <int kRows>
  static void score_rows(const PositionBlock<V>& block, size_t vectors, size_t r) {
    constexpr int kWide = kRows * 2 <= V::kScoreRows ? 4 : 2;
    size_t vector = 0;
    for (; vector + kWide <= vectors; vector += kWide) Tiles::template score<kRows, kWide>(block, vector, r);
    for (; vector < vectors; ++vector) Tiles::template score<kRows, 1>(block, vector, r);
  }

  // Turns row r's scores of one position block, of which it sees `live` > 0, into weights relative to the largest score so far, and what
  // was summed before into the same measure.
  void soften(size_t r, size_t live) {
    float* scores = block_.scores_of(r);
    const Float nothing = V::set1(-std::numeric_limits<float>::infinity());
    Float block_max = nothing;
    for (size_t p = 0; p < live; p += kLanes) block_max = V::max(block_max, V::first(live - p, V::load(scores + p), nothing));
    const float old_max = scratch_.maxima[r * 16], new_max = std::max(old_max, V::reduce_max(block_max));
    scratch_.maxima[r * 16] = new_max;

    const Float reference = V::set1(new_max);
    if (old_max != new_max) {
      const Float shrink = V::exp(V::sub(V::set1(old_max), reference));
      for (size_t i = 0; i < kKvInterleave; i += kLanes) V::store(weights(r) + i, V::mul(V::load(weights(r) + i), shrink));
      for (size_t d = 0; d < block_.padded_dim; d += kLanes) V::store(block_.sums(r) + d, V::mul(V::load(block_.sums(r) + d), shrink));
    }
    for (size_t i = 0; i < kKvInterleave; i += kLanes) {
      Float total = V::load(weights(r) + i);
      for (size_t p = i; p < live; p += kKvInterleave) {
        const Float weight = V::first(live - p, V::exp(V::sub(V::load(scores + p), reference)), V::zero());
        V::store(scores + p, weight);
        total = V::add(total, weight);
      }
      V::store(weights(r) + i, total);
    }
  }

  template <int kRows>
  static void add_values(const PositionBlock<V>& block, size_t begin, size_t end, size_t r) {
    constexpr int kColumns = Tiles::value_columns(kRows);
    constexpr size_t kStep = kColumns * kLanes;
    size_t d = 0;
    for (; d + kStep <= block.head_dim; d += kStep) Tiles::template add_values<kRows, kColumns>(block, begin, end, r, d);
    for (; d < block.head_dim; d += kLanes) Tiles::template add_values<kRows, 1>(block, begin, end, r, d);
  }

  using ScoreRows = void (*)(const PositionBlock<V>&, size_t, size_t);
  using AddValues = void (*)(const PositionBlock<V>&, size_t, size_t, size_t);
  template <int... kCounts>
  static constexpr auto score_versions(std::integer_sequence<int, kCounts...>) {
    return std::array<ScoreRows, sizeof...(kCounts)>{score_rows<kCounts + 1>...};
  }
  template <int... kCounts>
  static constexpr auto value_versions(std::integer_sequence<int, kCounts...>) {
    return std::array<AddValues, sizeof...(kCounts)>{add_values<kCounts + 1>...};
  }
  static constexpr auto kScore = score_versions(std::make_integer_sequence<int, V::kScoreRows>());
  static constexpr auto kAdd = value_versions(std::make_integer_sequence<int, Tiles::kValueRows>());

  const AttentionArgs& args_;
  const AttentionUnit unit_;
  const size_t rows_;
  const AttentionScratch scratch_;
  const std::byte* keys_;
  const std::byte* values_;
  PositionBlock<V> block_{};  ///< the one at work
  PositionBlock<V> tree_{};   ///< the tree's places, from its first whole block on
  alignas(64) float tree_scores_[kRowBlock * kPositionBlock];
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_ATTENTION_VECTOR_H_
