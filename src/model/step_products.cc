// StepRunner's products: panels, and how a window's row blocks are shared out.
#include <algorithm>

#include "src/base/prefetch.h"
#include "src/kernels/activations.h"
#include "src/kernels/add_bias.h"
#include "src/kernels/bf16_activations.h"
#include "src/model/step_runner.h"

namespace outrigger {

Activations StepRunner::quantize(const float* src, std::byte* panel, uint32_t matrix, size_t tokens, size_t begin, size_t end) {
  const uint64_t width = layout_.weights[matrix].columns;
  const Activations activations = args_.panel_of_window(matrix);
  if (activations == Activations::kInt8) quantize_activations({src, width, panel, tokens, width}, begin, end);
  if (activations == Activations::kBf16) round_activations({src, width, panel, width}, begin, end);
  return activations;
}

void StepRunner::quantize_finely(uint32_t matrix, size_t tokens, size_t begin, size_t end) {
  if (begin == end || quantize(buffers_.normed, buffers_.panel, matrix, tokens, begin, end) != Activations::kInt8) return;
  const uint64_t width = config_.width;
  float* const remainder = buffers_.attention;  // not in use before attention
  quantization_remainder({buffers_.normed, width, buffers_.panel, tokens, width}, begin, end, remainder);
  quantize_activations({remainder, width, buffers_.remainder_panel, tokens, width}, begin, end);
}

// What is shared out is passes over row blocks. For a token or two the second pass is nearly free: see fine_product.
void StepRunner::product(const TaskGraph& graph, const TaskNode& node, const TeamMember& member) {
  const StepOp op = static_cast<StepOp>(node.op);
  const auto passes = [&](const OperandRef& operand) {
    return args_.tokens_of(op) > 2 && args_.is_fine(operand.matrix) ? size_t{2} : size_t{1};
  };
  size_t all_passes = 0;
  for (const OperandRef& operand : graph.operands(node)) all_passes += args_.used_blocks(operand) * passes(operand);
  const Share mine = share_of(member, all_passes);

  size_t passes_before = 0;  // over the operands before this one
  for (const OperandRef& operand : graph.operands(node)) {
    const size_t blocks = args_.used_blocks(operand);
    // The operand's row blocks whose first pass lies in this member's share.
    const auto block_of = [&](size_t pass) {
      return std::min<size_t>(blocks, pass < passes_before ? 0 : (pass - passes_before + passes(operand) - 1) / passes(operand));
    };
    const size_t begin = block_of(mine.begin), end = block_of(mine.end);
    passes_before += blocks * passes(operand);
    if (begin == end) continue;
    const MatmulArgs args = args_.product(op, node.argument, operand);
    const bool is_fine = args_.is_fine(operand.matrix);
    if (!is_all_in_memory_ && !residency_.is_resident(operand.matrix)) {
      unpack_and_multiply(args, operand, is_fine, {begin, end}, member);
    } else if (is_fine) {
      fine_product(args, begin, end);
    } else {
      matmul(args, begin, end);
    }
    if (layout_.biases[operand.matrix] != kNoTensor) {
      const size_t row = begin * kPackRows, rows_end = std::min(args.rows, end * kPackRows);
      const float* const bias = fixed_ + layout_.biases[operand.matrix] + operand.first_block * kPackRows;
      add_bias({bias + row, args.dst + row, args.dst_stride, rows_end - row, args.tokens});
    }
  }
}

// Of a window on the device, whose input has arrived: what branches and residuals add to is nothing yet.
void StepRunner::begin_correction(const BranchWindow& window, const TeamMember& member) {
  const size_t tokens = input_.tokens.size();
  const Share mine = share_of(member, tokens);
  quantize(args_.input_of(window), buffers_.panel, window_matrices(layout_, window)[0], tokens, mine.begin, mine.end);
  for (const WindowResults& results : args_.results_of(window)) {
    if (results.data != nullptr) std::fill(results.data + mine.begin * results.width, results.data + mine.end * results.width, 0.0f);
  }
}

void StepRunner::branch_panels(const BranchWindow& window, const TeamMember& member) {
  if (args_.numerics() != Numerics::kFast) return;
  const Share mine = share_of(member, input_.tokens.size());
  if (mine.begin == mine.end) return;
  for (const uint32_t matrix : branched_matrices(layout_, window)) {
    if (matrix != kNoMatrix && args_.used_rank(matrix) > 0) quantize_activations(args_.components(matrix), mine.begin, mine.end);
  }
}

// Rows that have just come from the file: some at a time packed into this thread's buffer, and multiplied with while they are in its cache.
void StepRunner::unpack_and_multiply(const MatmulArgs& args, const OperandRef& operand, bool is_fine, const Share& blocks,
                                     const TeamMember& member) const {
  const WeightSource& weight = layout_.weights[operand.matrix];
  const std::span<std::byte> buffer = residency_.unpack_buffer(member.index());
  const size_t at_once = std::max<size_t>(1, buffer.size() / args.block_bytes());
  for (size_t block = blocks.begin; block < blocks.end; block += at_once) {
    const size_t some = std::min(blocks.end - block, at_once);
    const std::byte* const rows = args.weights + block * weight.block_file_bytes();
    const uint64_t bytes = weight.file_bytes(operand.first_block + block, some);
    bring_near(rows, bytes);
    weight.place(rows, bytes, buffer.data());
    MatmulArgs part = args;
    part.weights = buffer.data();
    part.rows = args.rows - block * kPackRows;
    part.dst = args.dst + block * kPackRows;
    if (is_fine) {
      fine_product(part, 0, some);
    } else {
      matmul(part, 0, some);
    }
  }
}

// Both panels over some row blocks before the next ones: the second pass finds the weights in the second-level cache, so that for a token
// or two this costs what one pass costs, the reading of memory.
void StepRunner::fine_product(const MatmulArgs& args, size_t begin, size_t end) const {
  constexpr uint64_t kCacheBytes = 256 << 10;
  const size_t at_once = std::max<size_t>(1, kCacheBytes / packed_block_bytes(args.kind, args.columns));
  MatmulArgs remainder = args;
  remainder.panel = buffers_.remainder_panel;
  remainder.accumulate = true;
  for (size_t block = begin; block < end; block += at_once) {
    const size_t some = std::min(end, block + at_once);
    matmul(args, block, some);
    matmul(remainder, block, some);
  }
}

}  // namespace outrigger
