// WeightSource: where a matrix of the step's shape is in the file, and as what.
#ifndef OUTRIGGER_SRC_MEMORY_WEIGHT_SOURCE_H_
#define OUTRIGGER_SRC_MEMORY_WEIGHT_SOURCE_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "src/tensor/packed.h"

namespace outrigger {

/// One per StepShape::matrices, in that order. A stack of experts is one source; row blocks count through it, an expert's after another's,
/// each expert's last one padded.
struct WeightSource {
  DType type = DType::kF32;
  PackedKind kind = PackedKind::kF32;
  uint64_t rows = 0, columns = 0;           ///< of one expert
  uint64_t file_offset = 0;                 ///< of the first row
  uint64_t row_bytes = 0;                   ///< in the file, to look up one row: all of its row block where the file is packed
  bool is_packed = false;                   ///< the file holds row blocks as memory does, an expert's last one padded
  uint32_t experts = 1;
  std::vector<uint64_t> expert_offsets;     ///< [experts] where each begins; empty: one matrix, or a stack that is one piece of the file

  uint64_t blocks_per_expert() const { return (rows + kPackRows - 1) / kPackRows; }
  uint64_t blocks() const { return blocks_per_expert() * experts; }
  uint64_t block_file_bytes() const { return is_packed ? row_bytes : row_bytes * kPackRows; }
  uint64_t expert_file_bytes() const { return (is_packed ? blocks_per_expert() : rows) * row_bytes; }
  /// Where the rows of a row block begin in the file.
  uint64_t offset_of(uint64_t block) const {
    const uint64_t expert = block / blocks_per_expert(), inside = block % blocks_per_expert() * block_file_bytes();
    return (expert_offsets.empty() ? file_offset + expert * expert_file_bytes() : expert_offsets[expert]) + inside;
  }
  /// Bytes in the file of row blocks [first, first + count), all of one expert, whose last one may be short of rows.
  uint64_t file_bytes(uint64_t first, uint64_t count) const {
    if (is_packed) return count * row_bytes;
    const uint64_t begin = first % blocks_per_expert() * kPackRows;
    return (std::min(rows, begin + count * kPackRows) - begin) * row_bytes;
  }
  /// Row blocks to `dst` from the file's `bytes` at `src`, which are theirs.
  void place(const std::byte* src, uint64_t bytes, std::byte* dst) const {
    if (is_packed) {
      std::memcpy(dst, src, bytes);
    } else {
      pack_rows(type, src, bytes / row_bytes, columns, dst);
    }
  }
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MEMORY_WEIGHT_SOURCE_H_
