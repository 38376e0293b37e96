// What the kernels of attention are given.
#ifndef OUTRIGGER_CUDA_KERNELS_ATTENTION_JOB_H_
#define OUTRIGGER_CUDA_KERNELS_ATTENTION_JOB_H_

#include "cuda/kernels/device_code.h"
#include "cuda/kernels/launch.h"
#include "src/kernels/attention_rows.h"

namespace outrigger::cuda {

inline constexpr uint32_t kPart = kPartPositions;
inline constexpr uint32_t kSoftBlock = kPositionBlock;
inline constexpr uint32_t kSoftBlocks = kPart / kSoftBlock;
/// A thread has the scores of two positions.
inline constexpr uint32_t kPartThreads = kPart / 2;

/// Values that a block of few rows copies to shared memory at once, while it works on those before.
inline constexpr uint32_t kTileBytes = 16 << 10;
/// Such blocks are a token's. They are few, so that nobody else hides the time that memory takes.
inline constexpr uint32_t kFewRows = 4;

struct AttentionJob {
  AttentionArgs args;
  Varying first_position;
  uint32_t group = 0, rows = 0;  ///< query heads of a key-value head, and with each token a row
  uint32_t row_blocks = 0;
  uint32_t parts = 0;          ///< of the grid; 0: each block has them all
  float* results = nullptr;    ///< [parts][kv_heads][rows] results of src/kernels/attention_rows.h
  uint32_t result_floats = 0;  ///< of one

  /// Positions before token 0.
  OTR_DEVICE uint32_t first() const { return first_position.at != nullptr ? *first_position.at : first_position.value; }
  /// Positions that a row sees. What is `is_tree` where the compiler knows it costs chains nothing.
  OTR_DEVICE uint32_t positions(uint32_t row, bool is_tree) const {
    const uint32_t token = row / group;
    return first() + (is_tree ? static_cast<uint32_t>(args.tree->depth(args.tree_begin + token)) : token) + 1;
  }
  OTR_DEVICE size_t row_offset(uint32_t kv_head, uint32_t row, size_t stride) const {
    return row / group * stride + (size_t{kv_head} * group + row % group) * args.head_dim;
  }
  OTR_DEVICE float* result(uint32_t part, uint32_t kv_head, uint32_t row) const {
    return results + ((part * args.kv_heads + kv_head) * rows + row) * result_floats;
  }
};

}  // namespace outrigger::cuda

#endif  // OUTRIGGER_CUDA_KERNELS_ATTENTION_JOB_H_
