// Attention for AVX-512: scores by lanes of positions, outputs by lanes of elements, both in float32.
#include <array>
#include <limits>

#include "src/kernels/attention_rows.h"
#include "src/kernels/avx512.h"
#include "src/kernels/exp_avx512.h"

namespace outrigger {
namespace {

constexpr size_t kScoreVectors = kPositionBlock / kLanes;

// A thread's scratch, cut into what attention_scratch_bytes() counts.
struct Scratch {
  size_t padded_dim;
  float* queries;  // [kRowBlock][padded_dim], times the scale
  float* sums;     // [kRowBlock][padded_dim]: weighted values so far
  float* scores;   // [kRowBlock][kPositionBlock], then the weights
  float* weights;  // [kRowBlock][16]: sums of weights so far, by lane
  float* maxima;   // [kRowBlock][16]: the first is the largest score so far

  Scratch(std::byte* memory, size_t head_dim) : padded_dim((head_dim + kLanes - 1) / kLanes * kLanes) {
    queries = reinterpret_cast<float*>(memory);
    sums = queries + kRowBlock * padded_dim;
    scores = sums + kRowBlock * padded_dim;
    weights = scores + kRowBlock * kPositionBlock;
    maxima = weights + kRowBlock * kLanes;
  }
};

// The key-value head of an item and what is common to its pieces.
struct Head {
  const uint16_t* keys;
  const uint16_t* values;
  size_t head_dim;
};

void begin_rows(const AttentionArgs& args, const AttentionItem& item, const Scratch& scratch) {
  const __m512 scale = _mm512_set1_ps(args.scale);
  for (size_t row = item.row_begin; row < item.row_end; ++row) {
    const size_t r = row - item.row_begin;
    const float* q = args.q + row_offset(args, item, row, args.q_stride);
    for (size_t d = 0; d < scratch.padded_dim; d += kLanes) {
      const __m512 x = _mm512_maskz_loadu_ps(lanes_below(args.head_dim - d), q + d);
      _mm512_storeu_ps(scratch.queries + r * scratch.padded_dim + d, _mm512_mul_ps(x, scale));
      _mm512_storeu_ps(scratch.sums + r * scratch.padded_dim + d, _mm512_setzero_ps());
    }
    _mm512_storeu_ps(scratch.weights + r * kLanes, _mm512_setzero_ps());
    scratch.maxima[r * kLanes] = -std::numeric_limits<float>::infinity();
  }
}

// scores[r][16 * s + lane] = query r times the key of that position, for kRows rows and kVectors times 16 positions from `keys` on.
template <int kRows, int kVectors>
void score_tile(const uint16_t* keys, const Head& head, const Scratch& scratch, size_t r, float* scores) {
  const float* queries = scratch.queries + r * scratch.padded_dim;
  __m512 dots[kRows][kVectors];
  for (auto& row : dots) {
    for (__m512& dot : row) dot = _mm512_setzero_ps();
  }
  for (size_t d = 0; d < head.head_dim; ++d) {
    __m512 key[kVectors];
    for (int s = 0; s < kVectors; ++s) key[s] = load_halves(keys + (s * head.head_dim + d) * kKvInterleave);
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
      const __m512 q = _mm512_set1_ps(queries[i * scratch.padded_dim + d]);
      for (int s = 0; s < kVectors; ++s) dots[i][s] = _mm512_fmadd_ps(q, key[s], dots[i][s]);
    }
  }
  for (int i = 0; i < kRows; ++i) {
    for (int s = 0; s < kVectors; ++s) _mm512_storeu_ps(scores + (r + i) * kPositionBlock + s * kLanes, dots[i][s]);
  }
}

// Few rows take more positions at once: a chain of additions has to wait 4 cycles for itself, and there are two adders to keep busy.
constexpr int kScoreRows = 8;
template <int kRows>
void score_rows(const uint16_t* keys, size_t vectors, const Head& head, const Scratch& scratch, size_t r, float* scores) {
  constexpr int kWide = kRows <= 4 ? 4 : 2;
  size_t s = 0;
  for (; s + kWide <= vectors; s += kWide) {
    score_tile<kRows, kWide>(keys + s * kLanes * head.head_dim, head, scratch, r, scores + s * kLanes);
  }
  for (; s < vectors; ++s) score_tile<kRows, 1>(keys + s * kLanes * head.head_dim, head, scratch, r, scores + s * kLanes);
}

// sums[r][...] += scores[r][p] * values[p][...] for kRows rows, p in [begin, end) of the position block whose values start at `values`.
template <int kRows>
void add_values(const uint16_t* values, size_t begin, size_t end, const Head& head, const Scratch& scratch, size_t r) {
  constexpr size_t kColumns = 4;  // vectors of a head at once: 6 rows of them are 24 sums
  const float* weights = scratch.scores + r * kPositionBlock;
  for (size_t d = 0; d < head.head_dim; d += kColumns * kLanes) {
    float* sums = scratch.sums + r * scratch.padded_dim + d;
    const size_t columns = std::min(kColumns, (head.head_dim - d + kLanes - 1) / kLanes);
    __mmask16 live[kColumns];
    for (size_t c = 0; c < kColumns; ++c) live[c] = c < columns ? lanes_below(head.head_dim - d - c * kLanes) : __mmask16{0};
    __m512 acc[kRows][kColumns];
    for (int i = 0; i < kRows; ++i) {
      for (size_t c = 0; c < kColumns; ++c) {
        acc[i][c] = c < columns ? _mm512_loadu_ps(sums + i * scratch.padded_dim + c * kLanes) : _mm512_setzero_ps();
      }
    }
    for (size_t p = begin; p < end; ++p) {
      __m512 value[kColumns];
      for (size_t c = 0; c < kColumns; ++c) {
        value[c] = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(live[c], values + p * head.head_dim + d + c * kLanes));
      }
#pragma GCC unroll 6
      for (int i = 0; i < kRows; ++i) {
        const __m512 weight = _mm512_set1_ps(weights[i * kPositionBlock + p]);
        for (size_t c = 0; c < kColumns; ++c) acc[i][c] = _mm512_fmadd_ps(weight, value[c], acc[i][c]);
      }
    }
    for (int i = 0; i < kRows; ++i) {
      for (size_t c = 0; c < columns; ++c) _mm512_storeu_ps(sums + i * scratch.padded_dim + c * kLanes, acc[i][c]);
    }
  }
}

constexpr int kValueRows = 6;
using ScoreRows = void (*)(const uint16_t*, size_t, const Head&, const Scratch&, size_t, float*);
using AddValues = void (*)(const uint16_t*, size_t, size_t, const Head&, const Scratch&, size_t);
constexpr std::array<ScoreRows, kScoreRows> kScore = {score_rows<1>, score_rows<2>, score_rows<3>, score_rows<4>,
                                                      score_rows<5>, score_rows<6>, score_rows<7>, score_rows<8>};
constexpr std::array<AddValues, kValueRows> kAdd = {add_values<1>, add_values<2>, add_values<3>,
                                                    add_values<4>, add_values<5>, add_values<6>};

// Turns row r's scores of one position block, of which it sees `live` > 0, into weights relative to the largest score so far, and what
// was summed before into the same measure.
void soften(const Scratch& scratch, size_t r, size_t live) {
  float* scores = scratch.scores + r * kPositionBlock;
  const __m512 nothing = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
  const auto lanes = [live](size_t s) { return s * kLanes < live ? lanes_below(live - s * kLanes) : __mmask16{0}; };
  __m512 block_max = nothing;
  for (size_t s = 0; s < kScoreVectors; ++s) {
    block_max = _mm512_max_ps(block_max, _mm512_mask_loadu_ps(nothing, lanes(s), scores + s * kLanes));
  }
  const float old_max = scratch.maxima[r * kLanes];
  const float new_max = std::max(old_max, _mm512_reduce_max_ps(block_max));
  scratch.maxima[r * kLanes] = new_max;

  const __m512 reference = _mm512_set1_ps(new_max);
  const __m512 shrink = exp16(_mm512_sub_ps(_mm512_set1_ps(old_max), reference));
  __m512 weight_sum = _mm512_mul_ps(_mm512_loadu_ps(scratch.weights + r * kLanes), shrink);
  for (size_t s = 0; s < kScoreVectors; ++s) {
    const __m512 score = _mm512_maskz_loadu_ps(lanes(s), scores + s * kLanes);
    const __m512 weight = _mm512_maskz_mov_ps(lanes(s), exp16(_mm512_sub_ps(score, reference)));
    weight_sum = _mm512_add_ps(weight_sum, weight);
    _mm512_storeu_ps(scores + s * kLanes, weight);
  }
  _mm512_storeu_ps(scratch.weights + r * kLanes, weight_sum);
  float* sums = scratch.sums + r * scratch.padded_dim;
  for (size_t d = 0; d < scratch.padded_dim; d += kLanes) _mm512_storeu_ps(sums + d, _mm512_mul_ps(_mm512_loadu_ps(sums + d), shrink));
}

// One position block, from `first` on, for those rows of the item that see any of it.
void attend_block(const AttentionArgs& args, const AttentionItem& item, const Head& head, const Scratch& scratch, size_t first) {
  const auto live = [&](size_t r) {
    const size_t positions = row_positions(args, item.row_begin + r);
    return positions > first ? std::min(kPositionBlock, positions - first) : 0;
  };
  const size_t rows = item.row_end - item.row_begin;
  size_t begin = 0;  // rows are in order of what they see
  while (live(begin) == 0) ++begin;

  const size_t vectors = (live(rows - 1) + kLanes - 1) / kLanes;
  for (size_t r = begin; r < rows; r += kScoreRows) {
    kScore[std::min<size_t>(kScoreRows, rows - r) - 1](head.keys + first * head.head_dim, vectors, head, scratch, r, scratch.scores);
  }
  for (size_t r = begin; r < rows; ++r) soften(scratch, r, live(r));

  // Rows of later tokens see a few positions more than the first one; those they add alone, so that no row touches what it does not see.
  const uint16_t* values = head.values + first * head.head_dim;
  const size_t common = live(begin);
  for (size_t r = begin; r < rows; r += kValueRows) {
    kAdd[std::min<size_t>(kValueRows, rows - r) - 1](values, 0, common, head, scratch, r);
  }
  for (size_t r = begin; r < rows; ++r) {
    if (live(r) > common) add_values<1>(values, common, live(r), head, scratch, r);
  }
}

void finish_rows(const AttentionArgs& args, const AttentionItem& item, const Scratch& scratch) {
  for (size_t row = item.row_begin; row < item.row_end; ++row) {
    const size_t r = row - item.row_begin;
    const __m512 inverse = _mm512_set1_ps(1 / _mm512_reduce_add_ps(_mm512_loadu_ps(scratch.weights + r * kLanes)));
    float* dst = args.dst + row_offset(args, item, row, args.dst_stride);
    for (size_t d = 0; d < args.head_dim; d += kLanes) {
      const __m512 sum = _mm512_loadu_ps(scratch.sums + r * scratch.padded_dim + d);
      _mm512_mask_storeu_ps(dst + d, lanes_below(args.head_dim - d), _mm512_mul_ps(sum, inverse));
    }
  }
}

void store_halves(const float* src, size_t count, uint16_t* dst) {
  for (size_t i = 0; i < count; i += kLanes) {
    const __mmask16 live = lanes_below(count - i);
    const __m256i halves = _mm512_cvtps_ph(_mm512_maskz_loadu_ps(live, src + i), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm256_mask_storeu_epi16(dst + i, live, halves);
  }
}

}  // namespace

void attention_avx512(const AttentionArgs& args, size_t item_begin, size_t item_end, size_t thread) {
  const Scratch scratch(args.scratch + thread * args.scratch_stride_bytes, args.head_dim);
  for (size_t i = item_begin; i < item_end; ++i) {
    const AttentionItem item = attention_item(args, i);
    const size_t head_offset = item.kv_head * args.capacity * args.head_dim;
    const Head head = {args.k_cache + head_offset, args.v_cache + head_offset, args.head_dim};
    begin_rows(args, item, scratch);
    const size_t positions = row_positions(args, item.row_end - 1);
    for (size_t first = 0; first < positions; first += kPositionBlock) attend_block(args, item, head, scratch, first);
    finish_rows(args, item, scratch);
  }
}

void append_kv_avx512(const AppendKvArgs& args, size_t kv_head_begin, size_t kv_head_end) {
  for (size_t h = kv_head_begin; h < kv_head_end; ++h) {
    const size_t head_offset = h * args.capacity * args.head_dim;
    for (size_t t = 0; t < args.tokens; ++t) {
      const float* k = args.k + t * args.k_stride + h * args.head_dim;
      const float* v = args.v + t * args.v_stride + h * args.head_dim;
      const size_t position = args.first_position + t;
      store_halves(v, args.head_dim, args.v_cache + head_offset + position * args.head_dim);
      uint16_t* keys = args.k_cache + head_offset + key_index(position, 0, args.head_dim);
      for (size_t d = 0; d < args.head_dim; d += kLanes) {
        uint16_t halves[kLanes];
        const size_t count = std::min(kLanes, args.head_dim - d);
        store_halves(k + d, count, halves);
        for (size_t i = 0; i < count; ++i) keys[(d + i) * kKvInterleave] = halves[i];
      }
    }
  }
}

}  // namespace outrigger
