// MatrixPlan: which matrices, and ranks that fit a budget.
#include "src/compress/matrix_plan.h"

#include <algorithm>

#include "src/compress/factor_codes.h"
#include "src/tensor/dtype.h"

namespace outrigger {

namespace {

bool has_shared_expert(const LayerLayout& layer) { return layer.shared_gate != kNoTensor; }

// What can have a branch.
std::vector<uint32_t> branchable_matrices(const ModelLayout& layout) {
  std::vector<uint32_t> matrices = matrices_of_layers(layout);
  std::erase_if(matrices, [&layout](uint32_t matrix) { return is_stack(layout, matrix); });
  return matrices;
}

}  // namespace

std::vector<uint32_t> compressed_matrices(const LayerLayout& layer) {
  std::vector<uint32_t> matrices = {layer.q, layer.k, layer.v, layer.output};
  if (has_shared_expert(layer)) matrices.insert(matrices.end(), {layer.shared.gate, layer.shared.up, layer.shared.down});
  matrices.insert(matrices.end(), {layer.ffn.gate, layer.ffn.up, layer.ffn.down});
  return matrices;
}

std::vector<std::string> kinds_of(const ModelLayout& layout) {
  std::vector<std::string> kinds = {"q", "k", "v", "output"};
  if (has_shared_expert(layout.layers.front())) kinds.insert(kinds.end(), {"shared_gate", "shared_up", "shared_down"});
  kinds.insert(kinds.end(), {"gate", "up", "down"});
  return kinds;
}

int fewest_bits(std::span<const MatrixPlan> plans, std::span<const uint32_t> matrices) {
  int fewest = plans[matrices.front()].bits;
  for (const uint32_t matrix : matrices) fewest = std::min(fewest, plans[matrix].bits);
  return fewest;
}

std::vector<Window> windows_of(const ModelLayout& layout, uint32_t layer) {
  const LayerLayout& parts = layout.layers[layer];
  std::vector<Window> windows = {{{parts.q, parts.k, parts.v}}, {{parts.output}}};
  const auto add_ffn = [&windows](const FfnLayout& ffn) { windows.insert(windows.end(), {{{ffn.gate, ffn.up}}, {{ffn.down}}}); };
  if (layout.config.experts == 0) add_ffn(parts.ffn);
  if (has_shared_expert(parts)) add_ffn(parts.shared);
  for (uint32_t expert = 0; expert < layout.config.experts; ++expert)
    windows.push_back({{parts.ffn.gate, parts.ffn.up, parts.ffn.down}, expert});
  return windows;
}

uint32_t windows_of_layer(const ModelLayout& layout) { return static_cast<uint32_t>(windows_of(layout, 0).size()); }

std::vector<uint32_t> matrices_of_layers(const ModelLayout& layout) {
  std::vector<uint32_t> matrices;
  for (const LayerLayout& layer : layout.layers) {
    const auto of_layer = compressed_matrices(layer);
    matrices.insert(matrices.end(), of_layer.begin(), of_layer.end());
  }
  return matrices;
}

uint64_t branch_bytes(uint64_t rows, uint64_t columns, uint32_t rank, int factor_bits) {
  const DType type = factor_type(factor_bits);
  return rank == 0 ? 0 : rank * *row_bytes(type, columns) + rows * *row_bytes(type, rank);
}

uint64_t residual_bytes(uint64_t rows, uint64_t columns) { return columns * *row_bytes(DType::kQ4_0, rows); }

uint64_t stored_residual_bytes(const ModelLayout& layout, uint32_t matrix) {
  const WeightSource& weight = layout.weights[matrix];
  return weight.experts * residual_bytes(weight.rows, weight.columns);
}

uint64_t reached_residual_bytes(const ModelLayout& layout, uint32_t matrix) {
  const WeightSource& weight = layout.weights[matrix];
  return (is_stack(layout, matrix) ? layout.config.used_experts : 1) * residual_bytes(weight.rows, weight.columns);
}

void plan_uniform_shares(const ModelLayout& layout, uint64_t read_bytes, std::vector<MatrixPlan>* plans) {
  uint64_t all = 0;
  for (const uint32_t matrix : matrices_of_layers(layout)) all += reached_residual_bytes(layout, matrix);
  for (const uint32_t matrix : matrices_of_layers(layout))
    (*plans)[matrix].share = std::min(1.0, static_cast<double>(read_bytes) / static_cast<double>(all));
}

void plan_hcinfer_ranks(const ModelLayout& layout, std::vector<MatrixPlan>* plans) {
  constexpr uint32_t kOfValues = 64, kOfOthers = 32;  // up's 16 is less than a group
  for (const LayerLayout& layer : layout.layers) {
    for (const uint32_t matrix : compressed_matrices(layer)) {
      if (matrix == layer.q || matrix == layer.k || is_stack(layout, matrix)) continue;
      const WeightSource& weight = layout.weights[matrix];
      (*plans)[matrix].rank =
          std::min(matrix == layer.v ? kOfValues : kOfOthers, static_cast<uint32_t>(std::min(weight.rows, weight.columns) / 32 * 32));
    }
  }
}

void plan_uniform_ranks(const ModelLayout& layout, uint64_t budget_bytes, int factor_bits, std::vector<MatrixPlan>* plans) {
  const std::vector<uint32_t> matrices = branchable_matrices(layout);
  const auto rank_of = [&](uint32_t matrix, uint32_t rank) {
    const WeightSource& weight = layout.weights[matrix];
    return std::min<uint32_t>(rank, static_cast<uint32_t>(std::min(weight.rows, weight.columns) / 32 * 32));
  };
  uint32_t chosen = 0;
  for (uint64_t before = 0, bytes = 0;; before = bytes, chosen += 32) {
    bytes = 0;
    for (const uint32_t matrix : matrices) {
      bytes += branch_bytes(layout.weights[matrix].rows, layout.weights[matrix].columns, rank_of(matrix, chosen + 32), factor_bits);
    }
    if (bytes > budget_bytes || bytes == before) break;
  }
  for (const uint32_t matrix : matrices) (*plans)[matrix].rank = rank_of(matrix, chosen);
}

}  // namespace outrigger
