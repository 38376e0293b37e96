// Attention's two inner products over float16 or float32 keys and values, for the vector versions.
#ifndef OUTRIGGER_SRC_KERNELS_ATTENTION_TILES_H_
#define OUTRIGGER_SRC_KERNELS_ATTENTION_TILES_H_

#include "src/kernels/attention_rows.h"
#include "src/kernels/unroll.h"

// V has internal linkage in each of its files, and through it so has everything here: no version can be taken for another's.
namespace outrigger {

/// One position block of a unit: what the tiles read and write.
template <typename V>
struct PositionBlock {
  const std::byte* keys;    ///< of the block's first position; a multiple of kKvInterleave
  const std::byte* values;
  size_t head_dim, padded_dim;
  const float* queries;     ///< [rows][padded_dim], as Tiles::load_query left them
  float* scores;            ///< [rows][kPositionBlock]; for the values they are weights
  float* results;           ///< [rows] results
  size_t ahead_bytes;       ///< from this block to the next one; 0 if there is none to fetch

  float* sums(size_t r) const { return results + r * (kResultHead + padded_dim) + kResultHead; }
  float* scores_of(size_t r) const { return scores + r * kPositionBlock; }
};

/// While one position block is computed on, the next one is fetched into the second-level cache: the processor's own prefetching stops at
/// each page, and left alone computing and waiting for memory add up (8192 positions: half the rate).
template <typename V, size_t kBytes>
void fetch(const std::byte* src) {
  for (size_t i = 0; i < kBytes; i += 64) __builtin_prefetch(src + i, 0, 2);
}
/// The same at step `step` of a walk that takes kBytes in each.
template <typename V, size_t kBytes>
void fetch_step(const std::byte* base, size_t step) {
  if (kBytes >= 64 || step * kBytes % 64 == 0) fetch<V, kBytes>(base + step * kBytes);
}

/// Over a cache of Element: uint16_t for float16 bits, or float.
template <typename V, typename Element>
struct FloatTiles {
  using Float = typename V::Float;
  static constexpr size_t kLanes = V::kLanes;
  static constexpr int kValueRows = V::kValueRows;
  static constexpr int value_columns(int) { return V::kValueColumns; }

  /// `query` holds the scaled query, padded with zeros: that is what score() wants.
  static void load_query(float*, size_t) {}

  /// scores[r][lanes of `vector`, vector + 1, ...] = query r times the keys of those positions, for kRows rows and kVectors vectors.
  template <int kRows, int kVectors>
  static void score(const PositionBlock<V>& block, size_t vector, size_t r) {
    const float* queries = block.queries + r * block.padded_dim;
    const Element* places[kVectors];
    for (int s = 0; s < kVectors; ++s) {
      const size_t position = (vector + static_cast<size_t>(s)) * kLanes;
      places[s] = reinterpret_cast<const Element*>(block.keys) + key_index(position, 0, block.head_dim);
    }
    const std::byte* const next = reinterpret_cast<const std::byte*>(places[0]) + block.ahead_bytes;
    Float dots[kRows][kVectors];
    OTR_UNROLLED(kRows, i, { OTR_UNROLLED(kVectors, s, { dots[i][s] = V::zero(); }); });
    for (size_t d = 0; d < block.head_dim; ++d) {
      fetch_step<V, kVectors * kLanes * sizeof(Element)>(next, d);
      Float key[kVectors];
      OTR_UNROLLED(kVectors, s, { key[s] = V::load_kv(places[s] + d * kKvInterleave); });
      OTR_UNROLLED(kRows, i, {
        const Float q = V::set1(queries[static_cast<size_t>(i) * block.padded_dim + d]);
        OTR_UNROLLED(kVectors, s, { dots[i][s] = V::fma(q, key[s], dots[i][s]); });
      });
    }
    OTR_UNROLLED(kRows, i, {
      float* scores = block.scores_of(r + static_cast<size_t>(i)) + vector * kLanes;
      OTR_UNROLLED(kVectors, s, { V::store(scores + static_cast<size_t>(s) * kLanes, dots[i][s]); });
    });
  }

  /// sums[r][kColumns vectors from d] += weight of position p * values[p] for kRows rows and the block's positions p in [begin, end).
  template <int kRows, int kColumns>
  static void add_values(const PositionBlock<V>& block, size_t begin, size_t end, size_t r, size_t d) {
    const Element* values = reinterpret_cast<const Element*>(block.values) + d;
    const std::byte* const next = reinterpret_cast<const std::byte*>(values) + block.ahead_bytes;
    const float* weights = block.scores_of(r);
    const auto place = [&](int i, int c) { return block.sums(r + static_cast<size_t>(i)) + d + static_cast<size_t>(c) * kLanes; };
    Float acc[kRows][kColumns];
    OTR_UNROLLED(kRows, i, { OTR_UNROLLED(kColumns, c, { acc[i][c] = V::load(place(i, c)); }); });
    for (size_t p = begin; p < end; ++p) {
      const Element* src = values + p * block.head_dim;
      fetch<V, kColumns * kLanes * sizeof(Element)>(next + p * block.head_dim * sizeof(Element));
      Float value[kColumns];
      OTR_UNROLLED(kColumns, c, {
        // A single column may be the head's last, partial one.
        value[c] = kColumns == 1 ? V::load_some_kv(src, block.head_dim - d) : V::load_kv(src + static_cast<size_t>(c) * kLanes);
      });
      OTR_UNROLLED(kRows, i, {
        const Float weight = V::set1(weights[static_cast<size_t>(i) * kPositionBlock + p]);
        OTR_UNROLLED(kColumns, c, { acc[i][c] = V::fma(weight, value[c], acc[i][c]); });
      });
    }
    OTR_UNROLLED(kRows, i, { OTR_UNROLLED(kColumns, c, { V::store(place(i, c), acc[i][c]); }); });
  }
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_ATTENTION_TILES_H_
