// PackedMatrix: row blocks of 16, element (row, k) at [k][row].
#include "src/forward/packed_matrix.h"

#include <algorithm>
#include <cstdint>

#include "src/kernels/matmul.h"
#include "src/tensor/packed.h"

namespace outrigger {
namespace {

constexpr size_t kAlignedFloats = kPackAlignment / sizeof(float);
constexpr size_t kTile = 16;  // of a transposition: a cache line each way

}  // namespace

float* PackedMatrix::aligned() {
  const auto address = reinterpret_cast<uintptr_t>(storage_.data());
  return storage_.data() + (kPackAlignment - address % kPackAlignment) % kPackAlignment / sizeof(float);
}

void PackedMatrix::reserve(size_t rows, size_t columns) {
  const size_t floats = matmul_blocks(rows) * kPackRows * columns + kAlignedFloats;
  if (storage_.size() < floats) storage_ = LeasedVector<float>(floats);
}

template <typename PackBlock>
void PackedMatrix::pack_blocks(size_t rows, size_t columns, ThreadTeam* team, PackBlock&& pack_block) {
  reserve(rows, columns);
  rows_ = rows;
  columns_ = columns;
  float* const packed = aligned();
  const auto pack_some = [&](size_t begin, size_t end) {
    for (size_t block = begin; block < end; ++block) {
      const size_t first = block * kPackRows, count = std::min(kPackRows, rows - first);
      float* const dst = packed + first * columns;
      if (count < kPackRows) std::fill(dst, dst + kPackRows * columns, 0.0f);
      pack_block(first, count, dst);
    }
  };
  if (team == nullptr) return pack_some(0, matmul_blocks(rows));
  team->run([&](const TeamMember& member) {
    size_t begin, end;
    member.share(matmul_blocks(rows), 1, &begin, &end);
    pack_some(begin, end);
  });
}

void PackedMatrix::pack(const FloatRows& values, size_t rows, size_t columns, ThreadTeam* team) {
  pack_blocks(rows, columns, team, [&](size_t first, size_t count, float* dst) {
    for (size_t r = 0; r < count; ++r) {
      const float* const row = values.data + (first + r) * values.stride;
      for (size_t k = 0; k < columns; ++k) dst[k * kPackRows + r] = row[k];
    }
  });
}

void PackedMatrix::pack_transposed(const FloatRows& values, size_t rows, size_t columns, ThreadTeam* team) {
  pack_blocks(rows, columns, team, [&](size_t first, size_t count, float* dst) {
    for (size_t k = 0; k < columns; ++k) std::copy_n(values.data + k * values.stride + first, count, dst + k * kPackRows);
  });
}

void PackedMatrix::multiply(const FloatRows& src, size_t tokens, float* dst, size_t dst_stride, bool adds, ThreadTeam* team) const {
  const size_t blocks = matmul_blocks(rows_);
  MatmulArgs args{PackedKind::kF32,
                  reinterpret_cast<const std::byte*>(aligned()),
                  rows_,
                  columns_,
                  src.data,
                  src.stride,
                  nullptr,
                  dst,
                  dst_stride,
                  tokens,
                  adds};
  if (team == nullptr) return matmul(args, 0, blocks);
  // A thin matrix has too few blocks for a team: its tokens are shared instead.
  const bool shares_blocks = blocks >= 4 * team->threads();
  team->run([&](const TeamMember& member) {
    size_t begin, end;
    member.share(shares_blocks ? blocks : tokens, 1, &begin, &end);
    if (begin == end) return;
    MatmulArgs mine = args;
    if (!shares_blocks) {
      mine.src += begin * src.stride;
      mine.dst += begin * dst_stride;
      mine.tokens = end - begin;
    }
    matmul(mine, shares_blocks ? begin : 0, shares_blocks ? end : blocks);
  });
}

void transpose(const FloatRows& values, size_t rows, size_t columns, float* dst) {
  for (size_t r0 = 0; r0 < rows; r0 += kTile) {
    for (size_t c0 = 0; c0 < columns; c0 += kTile) {
      for (size_t c = c0; c < std::min(columns, c0 + kTile); ++c) {
        for (size_t r = r0; r < std::min(rows, r0 + kTile); ++r) dst[c * rows + r] = values.data[r * values.stride + c];
      }
    }
  }
}

}  // namespace outrigger
