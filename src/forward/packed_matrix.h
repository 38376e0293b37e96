// PackedMatrix: a float32 matrix as the kernels read it, packed anew as often as it changes.
#ifndef OUTRIGGER_SRC_FORWARD_PACKED_MATRIX_H_
#define OUTRIGGER_SRC_FORWARD_PACKED_MATRIX_H_

#include <cstddef>
#include <span>
#include <vector>

#include "src/base/thread_team.h"
#include "src/memory/leased_vector.h"

namespace outrigger {

/// Rows of floats, `stride` apart.
struct FloatRows {
  const float* data = nullptr;
  size_t stride = 0;
};

/// Where a `team` is asked for, null means the calling thread alone: for use inside a region. Bits do not depend on it.
class PackedMatrix {
 public:
  PackedMatrix() = default;
  /// Of `values` [rows, columns]. Calling thread. Throws std::bad_alloc.
  PackedMatrix(std::span<const float> values, size_t rows, size_t columns) { pack({values.data(), columns}, rows, columns, nullptr); }
  PackedMatrix(PackedMatrix&&) = default;
  PackedMatrix& operator=(PackedMatrix&&) = default;  // a copy's storage would be aligned otherwise

  /// Room for a matrix, so that packing one of no greater size allocates nothing. Throws std::bad_alloc.
  void reserve(size_t rows, size_t columns);

  /// Takes over `values` [rows, columns]. Throws std::bad_alloc when the room does not do.
  void pack(const FloatRows& values, size_t rows, size_t columns, ThreadTeam* team);
  /// The same matrix given transposed: `values` [columns, rows]. Costs no more.
  void pack_transposed(const FloatRows& values, size_t rows, size_t columns, ThreadTeam* team);

  /// dst[t, row] = or += sum over columns of matrix[row, column] * src[t, column].
  void multiply(const FloatRows& src, size_t tokens, float* dst, size_t dst_stride, bool adds, ThreadTeam* team) const;
  /// The same for rows one behind the other.
  void multiply(std::span<const float> src, size_t tokens, float* dst, size_t dst_stride, bool adds, ThreadTeam& team) const {
    multiply({src.data(), columns_}, tokens, dst, dst_stride, adds, &team);
  }

  size_t rows() const { return rows_; }
  size_t columns() const { return columns_; }

 private:
  template <typename PackBlock>
  void pack_blocks(size_t rows, size_t columns, ThreadTeam* team, PackBlock&& pack_block);
  float* aligned();
  const float* aligned() const { return const_cast<PackedMatrix*>(this)->aligned(); }

  size_t rows_ = 0, columns_ = 0;
  LeasedVector<float> storage_;
};

/// dst [columns, rows] = `values` [rows, columns], transposed. Calling thread.
void transpose(const FloatRows& values, size_t rows, size_t columns, float* dst);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_FORWARD_PACKED_MATRIX_H_
