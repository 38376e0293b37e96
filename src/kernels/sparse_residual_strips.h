// The walk over a sparse residual that its fast versions share. For files compiled with AVX2 and F16C at least.
#ifndef OUTRIGGER_SRC_KERNELS_SPARSE_RESIDUAL_STRIPS_H_
#define OUTRIGGER_SRC_KERNELS_SPARSE_RESIDUAL_STRIPS_H_

#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "src/kernels/sparse_residual.h"

// Internal linkage for the reason given in avx512.h.
namespace outrigger {
namespace {

constexpr size_t kBlockBytes = 18;
// Sums of all tokens at once: 8 KiB, which leaves most of a first-level cache to the columns. A token alone walks strips of 2048 rows,
// several tokens narrower ones.
constexpr size_t kMostSums = 2048;
constexpr size_t kMostBlocks = kMostSums / kResidualGroup;
constexpr size_t kMostTokens = 8;
// Columns that are added in one pass over the sums, whose loads and stores would take as long as a column's arithmetic otherwise.
constexpr size_t kTogether = 4;
// Of several tokens: bytes of columns that stay in the second-level cache from one token to the next.
constexpr size_t kSharedBytes = 256 * 1024;
// Chosen columns lie anywhere, which no hardware foresees: without asking for so much of them ahead, columns of 324 bytes arrive half as
// fast.
constexpr size_t kAheadBytes = 8 * 1024;

/// [c * kMostBlocks + b] = x of column c * the scale of its block b.
template <size_t kCount>
struct Factors {
  alignas(32) float values[kCount * kMostBlocks];

  // The scales are brought together first, since converting one at a time takes as long as two of the vector operations of its block. Not a
  // column at a time: it would be read right after it was written, in smaller pieces, which processors are slow at.
  Factors(const std::byte* const* columns, const float* x, size_t blocks) {
    alignas(16) uint16_t scales[kCount * kMostBlocks];
    for (size_t c = 0; c < kCount; ++c) {
      for (size_t b = 0; b < blocks; ++b) std::memcpy(&scales[c * kMostBlocks + b], columns[c] + b * kBlockBytes, 2);
    }
    for (size_t c = 0; c < kCount; ++c) {
      for (size_t b = c * kMostBlocks; b < c * kMostBlocks + blocks; b += 8) {
        const __m256 eight = _mm256_cvtph_ps(_mm_load_si128(reinterpret_cast<const __m128i*>(scales + b)));
        _mm256_store_ps(values + b, _mm256_mul_ps(_mm256_set1_ps(x[c]), eight));
      }
    }
  }
};

/// Tokens' ways through their columns, for the rows of a strip.
template <typename Columns>
class StripWalk {
 public:
  StripWalk(const Columns& columns, const SparseResidualArgs& args, size_t row_begin, size_t rows)
      : columns_(columns),
        args_(args),
        column_bytes_(args.rows / kResidualGroup * kBlockBytes),
        first_byte_(row_begin / kResidualGroup * kBlockBytes),
        blocks_(rows / kResidualGroup),
        ahead_(std::max(kTogether, kAheadBytes / strip_bytes())) {}

  /// sums [tokens][rows] = what the columns of the tokens from `first` on make. A stretch of columns after the other: tokens share what was
  /// read.
  void walk(size_t first, size_t tokens, float* sums) const {
    std::memset(sums, 0, tokens * blocks_ * kResidualGroup * sizeof(float));
    if (tokens == 1) return add(first, 0, args_.counts[first], sums);
    size_t done[kMostTokens] = {};
    bool is_done = false;
    for (size_t limit = kSharedBytes / strip_bytes(); !is_done; limit += kSharedBytes / strip_bytes()) {
      is_done = true;
      for (size_t t = 0; t < tokens; ++t) {
        const uint32_t* const chosen = args_.chosen + (first + t) * args_.chosen_stride;
        const size_t count = args_.counts[first + t], begin = done[t];
        while (done[t] < count && chosen[done[t]] < limit) ++done[t];
        add(first + t, begin, done[t], sums + t * blocks_ * kResidualGroup);
        is_done &= done[t] == count;
      }
    }
  }

 private:
  // Adds the columns [begin, end) of those the token has chosen.
  void add(size_t token, size_t begin, size_t end, float* sums) const {
    const uint32_t* const chosen = args_.chosen + token * args_.chosen_stride;
    const float* const x = args_.src + token * args_.src_stride;
    for (size_t i = begin; i < std::min(end, begin + ahead_); ++i) bring(chosen[i]);
    size_t i = begin;
    for (; i + kTogether <= end; i += kTogether) {
      for (size_t next = i + ahead_; next < std::min(end, i + ahead_ + kTogether); ++next) bring(chosen[next]);
      add_columns<kTogether>(chosen + i, x, sums);
    }
    for (; i < end; ++i) add_columns<1>(chosen + i, x, sums);
  }

  template <size_t kCount>
  void add_columns(const uint32_t* chosen, const float* x, float* sums) const {
    const std::byte* column[kCount];
    float of_column[kCount];
    for (size_t c = 0; c < kCount; ++c) column[c] = at(chosen[c]), of_column[c] = x[chosen[c]];
    const Factors<kCount> factors(column, of_column, blocks_);
    columns_.template add<kCount>(column, factors.values, blocks_, sums);
  }

  const std::byte* at(size_t column) const { return args_.residual + column * column_bytes_ + first_byte_; }
  size_t strip_bytes() const { return blocks_ * kBlockBytes; }
  void bring(size_t column) const {
    constexpr size_t kLine = 64;
    const std::byte* const begin = at(column);
    const size_t into_line = reinterpret_cast<uintptr_t>(begin) % kLine;
    for (size_t i = 0; i < into_line + strip_bytes(); i += kLine) __builtin_prefetch(begin - into_line + i, 0, 2);
  }

  const Columns& columns_;
  const SparseResidualArgs& args_;
  const size_t column_bytes_, first_byte_, blocks_, ahead_;
};

/// Columns: add<n>(columns, factors, blocks, sums) adds n columns, one after the other, to sums [blocks * 32].
template <typename Columns>
void walk_strips(const Columns& columns, const SparseResidualArgs& args, size_t row_begin, size_t row_end) {
  alignas(64) float sums[kMostSums];
  for (size_t token = 0; token < args.tokens; token += kMostTokens) {
    const size_t tokens = std::min(kMostTokens, args.tokens - token), strip = kMostSums / tokens / kResidualGroup * kResidualGroup;
    for (size_t row = row_begin; row < row_end; row += strip) {
      const size_t rows = std::min(strip, row_end - row);
      StripWalk<Columns>(columns, args, row, rows).walk(token, tokens, sums);
      for (size_t t = 0; t < tokens; ++t) {
        float* const dst = args.dst + (token + t) * args.dst_stride + row;
        if (args.bias == nullptr) {
          for (size_t r = 0; r < rows; ++r) dst[r] += sums[t * rows + r];
        } else {
          for (size_t r = 0; r < rows; ++r) dst[r] += sums[t * rows + r] + args.bias[row + r];
        }
      }
    }
  }
}

}  // namespace
}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_SPARSE_RESIDUAL_STRIPS_H_
