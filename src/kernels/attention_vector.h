// Attention as the vector versions share it, over a type V of small vector operations (attention_avx2.cc, attention_avx512.cc): scores by
// lanes of positions, outputs by lanes of elements, both in float32.
#ifndef OUTRIGGER_SRC_KERNELS_ATTENTION_VECTOR_H_
#define OUTRIGGER_SRC_KERNELS_ATTENTION_VECTOR_H_

#include <array>
#include <limits>
#include <utility>

#include "src/kernels/attention_rows.h"
#include "src/kernels/unroll.h"

// V has internal linkage in each of its files, and through it so has everything here: no version can be taken for another's.
namespace outrigger {

/// A thread's scratch, cut into what attention_scratch_bytes() counts.
template <typename V>
struct AttentionScratch {
  size_t padded_dim;
  float* queries;  // [kRowBlock][padded_dim], times the scale
  float* sums;     // [kRowBlock][padded_dim]: weighted values so far
  float* scores;   // [kRowBlock][kPositionBlock], then the weights
  float* weights;  // [kRowBlock][16]: sums of weights so far, by lane
  float* maxima;   // [kRowBlock][16]: the first is the largest score so far

  AttentionScratch(std::byte* memory, size_t head_dim) : padded_dim((head_dim + 15) / 16 * 16) {
    queries = reinterpret_cast<float*>(memory);
    sums = queries + kRowBlock * padded_dim;
    scores = sums + kRowBlock * padded_dim;
    weights = scores + kRowBlock * kPositionBlock;
    maxima = weights + kRowBlock * 16;
  }
};

/// One item at work, over a cache of Element: uint16_t for float16 bits, or float.
template <typename V, typename Element>
class AttentionWork {
 public:
  using Float = typename V::Float;
  static constexpr size_t kLanes = V::kLanes;

  AttentionWork(const AttentionArgs& args, size_t item, size_t thread)
      : args_(args),
        item_(attention_item(args, item)),
        head_dim_(args.head_dim),
        keys_(static_cast<const Element*>(args.k_cache) + item_.kv_head * args.capacity * args.head_dim),
        values_(static_cast<const Element*>(args.v_cache) + item_.kv_head * args.capacity * args.head_dim),
        rows_(item_.row_end - item_.row_begin),
        scratch_(args.scratch + thread * args.scratch_stride_bytes, args.head_dim) {}

  void run() {
    for (size_t r = 0; r < rows_; ++r) begin_row(r);
    const size_t positions = row_positions(args_, item_.row_end - 1);
    for (size_t first = 0; first < positions; first += kPositionBlock) attend_block(first);
    for (size_t r = 0; r < rows_; ++r) finish_row(r);
  }

 private:
  float* sums(size_t r) const { return scratch_.sums + r * scratch_.padded_dim; }

  void begin_row(size_t r) {
    const float* q = args_.q + row_offset(args_, item_, item_.row_begin + r, args_.q_stride);
    const Float scale = V::set1(args_.scale);
    for (size_t d = 0; d < scratch_.padded_dim; d += kLanes) {
      const Float x = d < head_dim_ ? V::load_some(q + d, head_dim_ - d) : V::zero();
      V::store(scratch_.queries + r * scratch_.padded_dim + d, V::mul(x, scale));
      V::store(sums(r) + d, V::zero());
    }
    for (size_t i = 0; i < 16; i += kLanes) V::store(scratch_.weights + r * 16 + i, V::zero());
    scratch_.maxima[r * 16] = -std::numeric_limits<float>::infinity();
  }

  // Positions of the block at `first` that row r sees.
  size_t seen(size_t r, size_t first) const {
    const size_t positions = row_positions(args_, item_.row_begin + r);
    return positions > first ? std::min(kPositionBlock, positions - first) : 0;
  }

  // One position block, for those rows of the item that see any of it.
  void attend_block(size_t first) {
    size_t begin = 0;  // rows are in order of what they see
    while (seen(begin, first) == 0) ++begin;

    const size_t vectors = kKvInterleave / kLanes * ((seen(rows_ - 1, first) + kKvInterleave - 1) / kKvInterleave);
    for (size_t r = begin; r < rows_; r += V::kScoreRows) {
      kScore[std::min<size_t>(V::kScoreRows, rows_ - r) - 1](*this, keys_ + first * head_dim_, vectors, r);
    }
    for (size_t r = begin; r < rows_; ++r) soften(r, seen(r, first));

    // Rows of later tokens see a few positions more than the first one; those they add alone, so that no row touches what it does not see.
    const Element* values = values_ + first * head_dim_;
    const size_t common = seen(begin, first);
    for (size_t r = begin; r < rows_; r += V::kValueRows) {
      kAdd[std::min<size_t>(V::kValueRows, rows_ - r) - 1](*this, values, 0, common, r);
    }
    for (size_t r = begin; r < rows_; ++r) {
      if (seen(r, first) > common) add_values<1>(*this, values, common, seen(r, first), r);
    }
  }

  // scores[r][lanes of `vector`, vector + 1, ...] = query r times the keys of those positions, for kRows rows and kVectors vectors.
  template <int kRows, int kVectors>
  void score_tile(const Element* keys, size_t vector, size_t r) const {
    const float* queries = scratch_.queries + r * scratch_.padded_dim;
    const Element* places[kVectors];
    for (int s = 0; s < kVectors; ++s) {
      const size_t position = (vector + static_cast<size_t>(s)) * kLanes;
      places[s] = keys + position / kKvInterleave * kKvInterleave * head_dim_ + position % kKvInterleave;
    }
    Float dots[kRows][kVectors];
    OTR_UNROLLED(kRows, i, { OTR_UNROLLED(kVectors, s, { dots[i][s] = V::zero(); }); });
    for (size_t d = 0; d < head_dim_; ++d) {
      Float key[kVectors];
      OTR_UNROLLED(kVectors, s, { key[s] = V::load_kv(places[s] + d * kKvInterleave); });
      OTR_UNROLLED(kRows, i, {
        const Float q = V::set1(queries[static_cast<size_t>(i) * scratch_.padded_dim + d]);
        OTR_UNROLLED(kVectors, s, { dots[i][s] = V::fma(q, key[s], dots[i][s]); });
      });
    }
    OTR_UNROLLED(kRows, i, {
      float* scores = scratch_.scores + (r + static_cast<size_t>(i)) * kPositionBlock + vector * kLanes;
      OTR_UNROLLED(kVectors, s, { V::store(scores + static_cast<size_t>(s) * kLanes, dots[i][s]); });
    });
  }

  // Few rows take more positions at once: a chain of additions has to wait 4 cycles for itself, and there are two adders to keep busy.
  template <int kRows>
  static void score_rows(const AttentionWork& work, const Element* keys, size_t vectors, size_t r) {
    constexpr int kWide = kRows * 2 <= V::kScoreRows ? 4 : 2;
    size_t vector = 0;
    for (; vector + kWide <= vectors; vector += kWide) work.template score_tile<kRows, kWide>(keys, vector, r);
    for (; vector < vectors; ++vector) work.template score_tile<kRows, 1>(keys, vector, r);
  }

  // Turns row r's scores of one position block, of which it sees `live` > 0, into weights relative to the largest score so far, and what
  // was summed before into the same measure.
  void soften(size_t r, size_t live) {
    float* scores = scratch_.scores + r * kPositionBlock;
    const Float nothing = V::set1(-std::numeric_limits<float>::infinity());
    Float block_max = nothing;
    for (size_t p = 0; p < live; p += kLanes) block_max = V::max(block_max, V::first(live - p, V::load(scores + p), nothing));
    const float old_max = scratch_.maxima[r * 16], new_max = std::max(old_max, V::reduce_max(block_max));
    scratch_.maxima[r * 16] = new_max;

    const Float reference = V::set1(new_max);
    for (size_t p = 0; p < live; p += kLanes) {
      const Float weight = V::exp(V::sub(V::load(scores + p), reference));
      V::store(scores + p, V::first(live - p, weight, V::zero()));
    }
    float* weights = scratch_.weights + r * 16;
    if (old_max != new_max) {
      const Float shrink = V::exp(V::sub(V::set1(old_max), reference));
      for (size_t i = 0; i < 16; i += kLanes) V::store(weights + i, V::mul(V::load(weights + i), shrink));
      for (size_t d = 0; d < scratch_.padded_dim; d += kLanes) V::store(sums(r) + d, V::mul(V::load(sums(r) + d), shrink));
    }
    for (size_t p = 0; p < live; p += kLanes) V::store(weights + p % 16, V::add(V::load(weights + p % 16), V::load(scores + p)));
  }

  // sums[r][...] += weight of position p * values[p][...] for kRows rows and p in [begin, end) of the position block at `values`.
  template <int kRows>
  static void add_values(const AttentionWork& work, const Element* values, size_t begin, size_t end, size_t r) {
    constexpr size_t kStep = V::kValueColumns * kLanes;
    size_t d = 0;
    for (; d + kStep <= work.head_dim_; d += kStep) work.template value_tile<kRows, V::kValueColumns>(values, begin, end, r, d);
    for (; d < work.head_dim_; d += kLanes) work.template value_tile<kRows, 1>(values, begin, end, r, d);
  }

  template <int kRows, int kColumns>
  void value_tile(const Element* values, size_t begin, size_t end, size_t r, size_t d) const {
    const float* weights = scratch_.scores + r * kPositionBlock;
    Float acc[kRows][kColumns];
    const auto place = [&](int i, int c) { return sums(r + static_cast<size_t>(i)) + d + static_cast<size_t>(c) * kLanes; };
    OTR_UNROLLED(kRows, i, { OTR_UNROLLED(kColumns, c, { acc[i][c] = V::load(place(i, c)); }); });
    for (size_t p = begin; p < end; ++p) {
      const Element* src = values + p * head_dim_ + d;
      Float value[kColumns];
      OTR_UNROLLED(kColumns, c, {
        // A single column may be the head's last, partial one.
        value[c] = kColumns == 1 ? V::load_some_kv(src, head_dim_ - d) : V::load_kv(src + static_cast<size_t>(c) * kLanes);
      });
      OTR_UNROLLED(kRows, i, {
        const Float weight = V::set1(weights[static_cast<size_t>(i) * kPositionBlock + p]);
        OTR_UNROLLED(kColumns, c, { acc[i][c] = V::fma(weight, value[c], acc[i][c]); });
      });
    }
    OTR_UNROLLED(kRows, i, { OTR_UNROLLED(kColumns, c, { V::store(place(i, c), acc[i][c]); }); });
  }

  void finish_row(size_t r) {
    Float total = V::load(scratch_.weights + r * 16);
    for (size_t i = kLanes; i < 16; i += kLanes) total = V::add(total, V::load(scratch_.weights + r * 16 + i));
    const Float inverse = V::set1(1 / V::reduce_add(total));
    float* dst = args_.dst + row_offset(args_, item_, item_.row_begin + r, args_.dst_stride);
    for (size_t d = 0; d < head_dim_; d += kLanes) V::store_some(dst + d, head_dim_ - d, V::mul(V::load(sums(r) + d), inverse));
  }

  using ScoreRows = void (*)(const AttentionWork&, const Element*, size_t, size_t);
  using AddValues = void (*)(const AttentionWork&, const Element*, size_t, size_t, size_t);
  template <int... kCounts>
  static constexpr auto score_versions(std::integer_sequence<int, kCounts...>) {
    return std::array<ScoreRows, sizeof...(kCounts)>{score_rows<kCounts + 1>...};
  }
  template <int... kCounts>
  static constexpr auto value_versions(std::integer_sequence<int, kCounts...>) {
    return std::array<AddValues, sizeof...(kCounts)>{add_values<kCounts + 1>...};
  }
  static constexpr auto kScore = score_versions(std::make_integer_sequence<int, V::kScoreRows>());
  static constexpr auto kAdd = value_versions(std::make_integer_sequence<int, V::kValueRows>());

  const AttentionArgs& args_;
  const AttentionItem item_;
  const size_t head_dim_;
  const Element* const keys_;
  const Element* const values_;
  const size_t rows_;
  const AttentionScratch<V> scratch_;
};

/// AppendKv over V::store_kv(src, count, dst), which rounds or copies `count` floats.
template <typename V, typename Element>
void append_kv_vector(const AppendKvArgs& args, size_t kv_head_begin, size_t kv_head_end) {
  for (size_t h = kv_head_begin; h < kv_head_end; ++h) {
    const size_t head_offset = h * args.capacity * args.head_dim;
    for (size_t t = 0; t < args.tokens; ++t) {
      const float* k = args.k + t * args.k_stride + h * args.head_dim;
      const float* v = args.v + t * args.v_stride + h * args.head_dim;
      const size_t position = args.first_position + t;
      Element* values = static_cast<Element*>(args.v_cache) + head_offset + position * args.head_dim;
      Element* keys = static_cast<Element*>(args.k_cache) + head_offset + key_index(position, 0, args.head_dim);
      for (size_t d = 0; d < args.head_dim; d += V::kLanes) {
        Element stored[V::kLanes];
        const size_t count = std::min(V::kLanes, args.head_dim - d);
        V::store_kv(v + d, count, values + d);
        V::store_kv(k + d, count, stored);
        for (size_t i = 0; i < count; ++i) keys[(d + i) * kKvInterleave] = stored[i];
      }
    }
  }
}

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_ATTENTION_VECTOR_H_
