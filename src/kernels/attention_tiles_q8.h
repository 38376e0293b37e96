// Attention's two inner products over q8_0 keys and values, for the vector versions: integers for the scores, floats for the values.
#ifndef OUTRIGGER_SRC_KERNELS_ATTENTION_TILES_Q8_H_
#define OUTRIGGER_SRC_KERNELS_ATTENTION_TILES_Q8_H_

#include <bit>
#include <cstring>
#include <limits>

#include "src/kernels/attention_tiles.h"

// V has internal linkage in each of its files, and through it so has everything here: no version can be taken for another's.
namespace outrigger {

template <typename V>
struct CodeTiles {
  using Float = typename V::Float;
  using Int = typename V::Int;
  static constexpr size_t kLanes = V::kLanes;
  // Many rows share each conversion of a group; few take two groups at once, so that their sums need not wait for themselves.
  static constexpr int kValueRows = V::kCodeValueRows;
  static constexpr int value_columns(int rows) { return rows <= kValueRows / 3 ? V::kValueColumns : 2; }

  /// Turns the scaled query into 16-bit codes, in place, and their scale in the row's last float: 15 bits leave less error than the
  /// float16 of an f16 cache, and two elements at a time make one instruction of products and sums.
  static void load_query(float* query, size_t head_dim) {
    const uint32_t most = V::most_bits(query, head_dim);
    const float largest = std::bit_cast<float>(most);
    const bool is_finite = most < kInfinityBits;
    const float inverse = is_finite && largest >= kLeastScaled ? kQueryCodes / largest : 0;
    int16_t codes[16];
    for (size_t d = 0; d < head_dim; d += 16) {  // behind what is read, so it may lie where the floats were
      V::round_to_codes(query + d, inverse, codes);
      std::memcpy(reinterpret_cast<std::byte*>(query) + d * sizeof(int16_t), codes, sizeof codes);
    }
    query[head_dim - 1] = is_finite ? largest / kQueryCodes : std::numeric_limits<float>::quiet_NaN();
  }

  template <int kRows, int kVectors>
  static void score(const PositionBlock<V>& block, size_t vector, size_t r) {
    const size_t head_dim = block.head_dim;
    const auto query = [&](int i) { return block.queries + (r + static_cast<size_t>(i)) * block.padded_dim; };
    const std::byte* places[kVectors];  // of the first scale; the codes begin head_dim bytes later
    for (int s = 0; s < kVectors; ++s) {
      const size_t position = (vector + static_cast<size_t>(s)) * kLanes;
      places[s] = block.keys + position / kKvInterleave * q8_block_bytes(head_dim) + position % kKvInterleave * sizeof(uint16_t);
    }
    Float totals[kRows][kVectors];
    OTR_UNROLLED(kRows, i, { OTR_UNROLLED(kVectors, s, { totals[i][s] = V::zero(); }); });
    for (size_t group = 0; group < head_dim / kKvGroup; ++group) {
      Int dots[kRows][kVectors];
      OTR_UNROLLED(kRows, i, { OTR_UNROLLED(kVectors, s, { dots[i][s] = V::zero_int(); }); });
      for (size_t pair = group * kKvGroup / 2; pair < (group + 1) * kKvGroup / 2; ++pair) {
        const size_t offset = head_dim + pair * 2 * kKvInterleave;
        fetch_step<V, kVectors * kLanes * 2>(places[0] + block.ahead_bytes + head_dim, pair);
        Int key[kVectors];
        OTR_UNROLLED(kVectors, s, { key[s] = V::load_code_pairs(places[s] + offset); });
        OTR_UNROLLED(kRows, i, {
          const std::byte* const q = reinterpret_cast<const std::byte*>(query(i)) + pair * 2 * sizeof(int16_t);
          OTR_UNROLLED(kVectors, s, { dots[i][s] = V::add_pairs(dots[i][s], key[s], q); });
        });
      }
      OTR_UNROLLED(kVectors, s, {
        const Float scale = V::load_kv(reinterpret_cast<const uint16_t*>(places[s]) + group * kKvInterleave);
        OTR_UNROLLED(kRows, i, { totals[i][s] = V::fma(V::to_float(dots[i][s]), scale, totals[i][s]); });
      });
    }
    OTR_UNROLLED(kRows, i, {
      const Float scale = V::set1(query(i)[head_dim - 1]);
      float* scores = block.scores_of(r + static_cast<size_t>(i)) + vector * kLanes;
      OTR_UNROLLED(kVectors, s, { V::store(scores + static_cast<size_t>(s) * kLanes, V::mul(totals[i][s], scale)); });
    });
  }

  /// The scale goes to the weight, once for each position and group, rather than to every element.
  template <int kRows, int kColumns>
  static void add_values(const PositionBlock<V>& block, size_t begin, size_t end, size_t r, size_t d) {
    constexpr size_t kGroups = kColumns * kLanes > kKvGroup ? kColumns * kLanes / kKvGroup : 1;
    constexpr int kColumnsOfGroup = kColumns / static_cast<int>(kGroups);
    const size_t head_dim = block.head_dim;
    alignas(64) float weights[kRows][kGroups][kPositionBlock];
    for (size_t p = begin / kKvInterleave * kKvInterleave; p < end; p += kLanes) {
      const std::byte* scales = block.values + p / kKvInterleave * q8_block_bytes(head_dim) + p % kKvInterleave * sizeof(uint16_t);
      for (size_t g = 0; g < kGroups; ++g) {
        const Float scale = V::load_kv(reinterpret_cast<const uint16_t*>(scales) + (d / kKvGroup + g) * kKvInterleave);
        OTR_UNROLLED(kRows, i, { V::store(&weights[i][g][p], V::mul(V::load(block.scores_of(r + static_cast<size_t>(i)) + p), scale)); });
      }
    }

    const auto place = [&](int i, int c) { return block.sums(r + static_cast<size_t>(i)) + d + static_cast<size_t>(c) * kLanes; };
    Float acc[kRows][kColumns];
    OTR_UNROLLED(kRows, i, { OTR_UNROLLED(kColumns, c, { acc[i][c] = V::load(place(i, c)); }); });
    for (size_t p = begin; p < end; ++p) {
      const std::byte* src = block.values + p / kKvInterleave * q8_block_bytes(head_dim) + head_dim + p % kKvInterleave * head_dim + d;
      fetch<V, kColumns * kLanes>(src + block.ahead_bytes);
      Float value[kColumns];
      OTR_UNROLLED(kColumns, c, { value[c] = V::load_codes(src + static_cast<size_t>(c) * kLanes); });
      OTR_UNROLLED(kRows, i, {
        OTR_UNROLLED(static_cast<int>(kGroups), g, {
          const Float weight = V::set1(weights[i][g][p]);
          OTR_UNROLLED(kColumnsOfGroup, c, {
            constexpr int kColumn = static_cast<int>(g) * kColumnsOfGroup + static_cast<int>(c);
            acc[i][kColumn] = V::fma(weight, value[kColumn], acc[i][kColumn]);
          });
        });
      });
    }
    OTR_UNROLLED(kRows, i, { OTR_UNROLLED(kColumns, c, { V::store(place(i, c), acc[i][c]); }); });
  }
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_ATTENTION_TILES_Q8_H_
