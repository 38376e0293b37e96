// Attention: how much work and scratch there is, and the version for the level in use.
#include "src/kernels/attention.h"

#include "src/kernels/attention_rows.h"
#include "src/kernels/dispatch.h"

namespace outrigger {

size_t attention_items(const AttentionArgs& args) { return row_blocks(args) * args.kv_heads; }

uint64_t attention_scratch_bytes(size_t head_dim) {
  // A row's query and output, its scores of one position block, and a vector of running maximum and sum. Widths are rounded up to whole
  // vectors.
  const size_t padded_dim = (head_dim + 15) / 16 * 16;
  return uint64_t{kRowBlock} * (2 * padded_dim + kPositionBlock + 32) * sizeof(float);
}

void attention(const AttentionArgs& args, size_t item_begin, size_t item_end, size_t thread) {
  OTR_VERSION(attention)(args, item_begin, item_end, thread);
}

void append_kv(const AppendKvArgs& args, size_t kv_head_begin, size_t kv_head_end) {
  OTR_VERSION(append_kv)(args, kv_head_begin, kv_head_end);
}

}  // namespace outrigger
