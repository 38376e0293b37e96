// Counted from below: a matrix, a layer, what a text leaves in it, and then what is there at once.
#include "src/compress/polish_memory.h"

#include <algorithm>
#include <array>

#include "src/base/bytes.h"
#include "src/base/formatted.h"
#include "src/forward/dense_layer.h"
#include "src/forward/head_divergence.h"
#include "src/kernels/attention.h"
#include "src/kernels/kv_layout.h"
#include "src/tensor/packed.h"

namespace outrigger {
namespace {

constexpr uint64_t kFloat = sizeof(float);
// What the allocator rounds up to pages, and what is small: thirty arrays of a matrix of some megabytes are that much larger.
constexpr uint64_t kRoundingShare = 64;
constexpr uint64_t kSmallBytes = 16_KiB;
constexpr uint64_t kGradientRows = 256;    // BranchedMatrix: whose weights' gradients are there at once
constexpr uint64_t kHeadSliceTokens = 64;  // HeadLoss: whose logits are there at once

uint64_t padded(uint64_t rows) { return (rows + kPackRows - 1) / kPackRows * kPackRows; }
uint64_t with_rounding(uint64_t bytes) { return bytes + bytes / kRoundingShare + kSmallBytes; }

class PolishCount {
 public:
  PolishCount(const ModelLayout& layout, const PolishSizes& sizes)
      : layout_(layout), config_(layout.config), sizes_(sizes), n_(sizes.piece_tokens) {}

  uint64_t end_to_end() const {
    uint64_t layers = 0, factors = 0, codes = 0, tapes = 0, reading = 0, teacher = 0;
    for (const LayerLayout& layer : layout_.layers) {
      layers += matrices(layer, 2);
      factors += trained_factors(layer) + given_factors(layer);
      codes += trained_codes(layer);
      tapes += tape(layer);
      reading = std::max(reading, reading_bytes(layer));
      teacher = std::max(teacher, matrices(layer, 1));
    }
    const WeightSource& head = layout_.weights[layout_.head];
    const uint64_t packed_head = kFloat * (padded(head.rows) * head.columns + padded(head.columns) * head.rows);
    const uint64_t logits = 2 * kFloat * kHeadSliceTokens * head.rows;
    const uint64_t head_reading = head.expert_file_bytes() + kFloat * head.rows * head.columns;
    const uint64_t always = kept() + new_heads() + fixed() + stream(sizes_.pieces) + stream(4) + pass();
    const uint64_t asking_teacher = std::max(teacher + reading + tapes / config_.layers, packed_head + head_reading);
    const uint64_t training = packed_head + logits + layers + std::max(reading, factors + tapes + rounding()) + codes + showing();
    return with_rounding(always + std::max(asking_teacher, training));
  }

  uint64_t block() const {
    uint64_t most = 0;
    for (const LayerLayout& layer : layout_.layers) {
      const uint64_t given = given_factors(layer);
      most = std::max(most, matrices(layer, 2) + tape(layer) + given +
                                std::max(reading_bytes(layer),
                                         trained_factors(layer) + trained_codes(layer) + showing() + std::max(given, rounding())));
    }
    const uint64_t measuring = stream(2) + head_divergence_bytes(layout_, n_);
    const uint64_t streams = stream(2 * sizes_.pieces + sizes_.held_out);
    return with_rounding(kept() + new_codes() + new_heads() + fixed() + streams + std::max(stream(2) + pass() + most, measuring));
  }

 private:
  const MatrixPlan& plan(uint32_t matrix) const { return sizes_.plans[matrix]; }
  const WeightSource& weight(uint32_t matrix) const { return layout_.weights[matrix]; }
  uint64_t fixed() const { return layout_.shape.fixed_bytes; }
  uint64_t stream(uint64_t pieces) const { return kFloat * pieces * n_ * config_.width; }
  uint64_t qkv_width() const { return config_.attention_width() + 2 * config_.kv_width(); }
  uint64_t numbers(uint32_t matrix) const { return plan(matrix).rank * (weight(matrix).rows + weight(matrix).columns); }

  // As codes, with what rounding them goes by.
  uint64_t codes(uint32_t matrix) const {
    if (plan(matrix).rank == 0) return 0;
    return branch_bytes(weight(matrix).rows, weight(matrix).columns, plan(matrix).rank, sizes_.factor_bits) +
           kFloat * weight(matrix).columns + sizeof(double) * plan(matrix).rank;
  }
  uint64_t new_codes() const {
    uint64_t bytes = 0;
    for (const uint32_t matrix : matrices_of_layers(layout_)) bytes += codes(matrix);
    return bytes;
  }
  uint64_t kept() const {
    uint64_t bytes = new_codes();
    for (const uint32_t matrix : matrices_of_layers(layout_)) {
      if (plan(matrix).share > 0) bytes += residual_bytes(weight(matrix).rows, weight(matrix).columns);
    }
    return bytes;
  }

  bool trains_scales(uint32_t matrix) const { return sizes_.trains_backbone && plan(matrix).share == 0; }
  uint64_t weights(uint32_t matrix) const { return weight(matrix).rows * weight(matrix).columns; }
  uint64_t blocks(uint32_t matrix) const { return trains_scales(matrix) ? weights(matrix) / plan(matrix).form.block : 0; }
  // Of each block the new scale and minimum, and of each norm the weights, from when they are trained until they are written.
  uint64_t new_heads() const {
    uint64_t bytes = sizes_.trains_backbone ? fixed() : 0;
    for (const uint32_t matrix : matrices_of_layers(layout_)) bytes += kFloat * blocks(matrix);
    return bytes;
  }
  // The codes, and ten numbers for each block: scale and minimum as they were, as they are, and with gradients and two means.
  uint64_t trained_codes(const LayerLayout& layer) const {
    uint64_t bytes = 0;
    for (const uint32_t matrix : matrices_of(layer)) {
      bytes += 10 * kFloat * blocks(matrix);
      if (trains_scales(matrix)) bytes += weight(matrix).rows * *row_bytes(plan(matrix).type(), weight(matrix).columns);
    }
    return bytes;
  }
  // One matrix decoded, the gradients of some of its rows, and seven numbers for a norm's weight.
  uint64_t showing() const {
    if (!sizes_.trains_backbone) return 0;
    uint64_t largest = 0, gradients = 0;
    for (const uint32_t matrix : matrices_of_layers(layout_)) {
      largest = std::max(largest, weights(matrix));
      gradients = std::max(gradients, std::min(kGradientRows, weight(matrix).rows) * (weight(matrix).columns + n_));
    }
    return kFloat * (largest + gradients) + 7 * fixed();
  }

  // Packed for products: with it, and where it is there twice, with its transpose.
  uint64_t matrices(const LayerLayout& layer, int times) const {
    uint64_t floats = 0;
    for (const uint32_t matrix : matrices_of(layer)) {
      const auto [rows, columns] = std::pair(weight(matrix).rows, weight(matrix).columns);
      floats += padded(rows) * columns + (times == 2 ? padded(columns) * rows : 0);
    }
    return kFloat * floats;
  }
  // One matrix as a file has it and as float32, or as codes say it with what its residual adds.
  uint64_t reading_bytes(const LayerLayout& layer) const {
    uint64_t most = 0;
    for (const uint32_t matrix : matrices_of(layer)) {
      const uint64_t elements = weight(matrix).rows * weight(matrix).columns;
      most = std::max(
          {most, weight(matrix).expert_file_bytes() + kFloat * elements, (plan(matrix).share > 0 ? 2 : 1) * kFloat * elements + elements});
    }
    return most;
  }
  // Factors and gradients, packed both ways, two means, what stands behind the rounded ones, and these as the caller has them.
  uint64_t trained_factors(const LayerLayout& layer) const {
    uint64_t floats = 0;
    for (const uint32_t matrix : matrices_of(layer)) {
      const auto [rows, columns, rank] = std::tuple(weight(matrix).rows, weight(matrix).columns, uint64_t{plan(matrix).rank});
      floats += 6 * numbers(matrix) + padded(rank) * (rows + columns) + (padded(rows) + padded(columns)) * rank + rank;
    }
    return kFloat * floats;
  }
  uint64_t given_factors(const LayerLayout& layer) const {
    uint64_t floats = 0;
    for (const uint32_t matrix : matrices_of(layer)) floats += numbers(matrix);
    return kFloat * floats;
  }
  // One branch's factors and codes anew, while the old ones are there.
  uint64_t rounding() const {
    uint64_t most = 0;
    for (const uint32_t matrix : matrices_of_layers(layout_)) most = std::max(most, 2 * kFloat * numbers(matrix) + codes(matrix));
    return most;
  }

  uint64_t tape(const LayerLayout& layer) const {
    const uint64_t qkv = (layer.query_norm != kNoTensor ? 2 : 1) * qkv_width();
    return kFloat * n_ * (2 * config_.width + qkv + config_.attention_width() + 2 * config_.ffn_width);
  }
  // LayerPass: what it needs for any layer.
  uint64_t pass() const {
    const uint64_t q_width = config_.attention_width(), head_dim = config_.head_dim, longer = std::max<uint64_t>(n_, head_dim);
    uint64_t widest = 0, rank = 0;
    for (const uint32_t matrix : matrices_of_layers(layout_)) {
      widest = std::max({widest, weight(matrix).rows, weight(matrix).columns});
      rank = std::max<uint64_t>(rank, plan(matrix).rank);
    }
    const uint64_t forward = 2 * n_ * config_.rope_dim + 2 * kv_positions(n_) * config_.kv_width();
    const uint64_t rows = n_ * (2 * config_.width + 3 * config_.ffn_width + q_width + qkv_width());
    const uint64_t attention =
        std::min<uint64_t>(sizes_.threads, config_.heads) * (padded(longer) * longer + 2 * n_ * n_ + head_dim * n_) + 2 * q_width * n_;
    const uint64_t products = padded(widest) * n_ + 3 * n_ * rank;
    return kFloat * (forward + rows + attention + products) + sizes_.threads * attention_scratch_bytes(head_dim);
  }

  const ModelLayout& layout_;
  const ModelConfig& config_;
  const PolishSizes& sizes_;
  const uint64_t n_;
};

}  // namespace

uint64_t end_to_end_polish_bytes(const ModelLayout& layout, const PolishSizes& sizes) { return PolishCount(layout, sizes).end_to_end(); }
uint64_t block_polish_bytes(const ModelLayout& layout, const PolishSizes& sizes) { return PolishCount(layout, sizes).block(); }

Result<PolishPlan> choose_polish_scope(const ModelLayout& layout, const PolishSizes& sizes, PolishScope scope, uint64_t budget_bytes) {
  const auto fits = [budget_bytes](uint64_t bytes) { return budget_bytes == 0 || bytes <= budget_bytes; };
  const uint64_t whole = end_to_end_polish_bytes(layout, sizes), block = block_polish_bytes(layout, sizes);
  if (scope != PolishScope::kBlock && fits(whole)) return PolishPlan{PolishScope::kEndToEnd, whole};
  if (scope != PolishScope::kEndToEnd && fits(block)) return PolishPlan{PolishScope::kBlock, block};
  const uint64_t needed = scope == PolishScope::kEndToEnd ? whole : scope == PolishScope::kBlock ? block : std::min(whole, block);
  return Status(StatusCode::kBudget, formatted("training {} needs {} of memory, got {}; give more, or set polish_steps to 0",
                                               scope == PolishScope::kEndToEnd ? "end to end" : "block by block", format_bytes(needed),
                                               format_bytes(budget_bytes)))
      .with_bytes(needed, budget_bytes);
}

}  // namespace outrigger
