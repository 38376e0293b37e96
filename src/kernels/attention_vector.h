// Attention as the vector versions share it, over a type V of small vector operations (attention_avx2.cc, attention_avx512.cc): scores by
// lanes of positions, outputs by lanes of elements, both in float32.
#ifndef OUTRIGGER_SRC_KERNELS_ATTENTION_VECTOR_H_
#define OUTRIGGER_SRC_KERNELS_ATTENTION_VECTOR_H_

#include <array>
#include <limits>
#include <utility>

#include "src/kernels/attention_run.h"
#include "src/kernels/unroll.h"

// V has internal linkage in each of its files, and through it so has everything here: no version can be taken for another's.
namespace outrigger {

/// One unit at work, over a cache of Element: uint16_t for float16 bits, or float.
template <typename V, typename Element>
class AttentionWork {
 public:
  using Float = typename V::Float;
  static constexpr size_t kLanes = V::kLanes;

  AttentionWork(const AttentionArgs& args, const AttentionUnit& unit, const AttentionScratch& scratch)
      : args_(args),
        unit_(unit),
        head_dim_(args.head_dim),
        padded_dim_(padded_dim(args.head_dim)),
        keys_(static_cast<const Element*>(args.k_cache) + unit_.kv_head * args.capacity * args.head_dim),
        values_(static_cast<const Element*>(args.v_cache) + unit_.kv_head * args.capacity * args.head_dim),
        rows_(unit_.row_end - unit_.row_begin),
        scratch_(scratch) {
    const Float scale = V::set1(args_.scale);
    for (size_t r = 0; r < rows_; ++r) {
      const float* q = args_.q + row_offset(args_, unit_, unit_.row_begin + r, args_.q_stride);
      for (size_t d = 0; d < padded_dim_; d += kLanes) {
        const Float x = d < head_dim_ ? V::load_some(q + d, head_dim_ - d) : V::zero();
        V::store(scratch_.queries + r * padded_dim_ + d, V::mul(x, scale));
      }
    }
  }

  void attend_part(size_t part, float* results) {
    results_ = results;
    const size_t first_row = first_seeing<AttentionWork>(args_, unit_, part);
    const size_t begin = part * kPartPositions;
    const size_t end = std::min(begin + kPartPositions, row_positions(args_, unit_.row_end - 1));
    for (size_t r = first_row; r < rows_; ++r) begin_row(r);
    const size_t positions = row_positions(args_, unit_.row_end - 1);
    for (size_t first = begin; first < end; first += kPositionBlock) {
      ahead_bytes_ = first + kPositionBlock < positions ? kPositionBlock * head_dim_ * sizeof(Element) : 0;
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
  float* weights(size_t r) const { return results_ + r * (kResultHead + padded_dim_); }
  float* sums(size_t r) const { return weights(r) + kResultHead; }

  void begin_row(size_t r) const {
    for (size_t d = 0; d < kResultHead + padded_dim_; d += kLanes) V::store(weights(r) + d, V::zero());
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
    const float* queries = scratch_.queries + r * padded_dim_;
    const Element* places[kVectors];
    for (int s = 0; s < kVectors; ++s) {
      const size_t position = (vector + static_cast<size_t>(s)) * kLanes;
      places[s] = keys + position / kKvInterleave * kKvInterleave * head_dim_ + position % kKvInterleave;
    }
    Float dots[kRows][kVectors];
    OTR_UNROLLED(kRows, i, { OTR_UNROLLED(kVectors, s, { dots[i][s] = V::zero(); }); });
    const std::byte* const next = reinterpret_cast<const std::byte*>(places[0]) + ahead_bytes_;
    for (size_t d = 0; d < head_dim_; ++d) {
      Float key[kVectors];
      prefetch<kVectors * kLanes * sizeof(Element)>(next, d);
      OTR_UNROLLED(kVectors, s, { key[s] = V::load_kv(places[s] + d * kKvInterleave); });
      OTR_UNROLLED(kRows, i, {
        const Float q = V::set1(queries[static_cast<size_t>(i) * padded_dim_ + d]);
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
    if (old_max != new_max) {
      const Float shrink = V::exp(V::sub(V::set1(old_max), reference));
      for (size_t i = 0; i < kKvInterleave; i += kLanes) V::store(weights(r) + i, V::mul(V::load(weights(r) + i), shrink));
      for (size_t d = 0; d < padded_dim_; d += kLanes) V::store(sums(r) + d, V::mul(V::load(sums(r) + d), shrink));
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
    const std::byte* const next = reinterpret_cast<const std::byte*>(values + d) + ahead_bytes_;
    for (size_t p = begin; p < end; ++p) {
      const Element* src = values + p * head_dim_ + d;
      prefetch_span<kColumns * kLanes * sizeof(Element)>(next + p * head_dim_ * sizeof(Element));
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

  // While one position block is computed on, the next one is fetched into the second-level cache: the processor's own prefetching stops at
  // each page, and left alone computing and waiting for memory add up.
  // `step` of a walk over memory that takes kBytes in each.
  template <size_t kBytes>
  static void prefetch(const std::byte* base, size_t step) {
    if (kBytes >= 64 || step * kBytes % 64 == 0) prefetch_span<kBytes>(base + step * kBytes);
  }
  template <size_t kBytes>
  static void prefetch_span(const std::byte* src) {
    for (size_t i = 0; i < kBytes; i += 64) __builtin_prefetch(src + i, 0, 2);
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
  const AttentionUnit unit_;
  const size_t head_dim_, padded_dim_;
  const Element* const keys_;
  const Element* const values_;
  const size_t rows_;
  const AttentionScratch scratch_;
  float* results_ = nullptr;
  size_t ahead_bytes_ = 0;  ///< from a block to the next one, if there is one to fetch
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_ATTENTION_VECTOR_H_
