// MatrixPlan: which matrices, and ranks that fit a budget.
#include "src/compress/matrix_plan.h"

#include <algorithm>

#include "src/compress/factor_codes.h"
#include "src/tensor/dtype.h"

namespace outrigger {

std::vector<uint32_t> matrices_of_layers(const ModelLayout& layout) {
  std::vector<uint32_t> matrices;
  for (const LayerLayout& layer : layout.layers) {
    const auto of_layer = matrices_of(layer);
    matrices.insert(matrices.end(), of_layer.begin(), of_layer.end());
  }
  return matrices;
}

uint64_t branch_bytes(uint64_t rows, uint64_t columns, uint32_t rank, int factor_bits) {
  const DType type = factor_type(factor_bits);
  return rank == 0 ? 0 : rank * *row_bytes(type, columns) + rows * *row_bytes(type, rank);
}

uint64_t residual_bytes(uint64_t rows, uint64_t columns) { return columns * *row_bytes(DType::kQ4_0, rows); }

void plan_uniform_shares(const ModelLayout& layout, uint64_t read_bytes, std::vector<MatrixPlan>* plans) {
  uint64_t all = 0;
  for (const uint32_t matrix : matrices_of_layers(layout)) all += residual_bytes(layout.weights[matrix].rows, layout.weights[matrix].columns);
  for (const uint32_t matrix : matrices_of_layers(layout)) (*plans)[matrix].share = std::min(1.0, static_cast<double>(read_bytes) / static_cast<double>(all));
}

void plan_hcinfer_ranks(const ModelLayout& layout, std::vector<MatrixPlan>* plans) {
  constexpr uint32_t kRanks[] = {0, 0, 64, 32, 32, 32, 32};  // up's 16 is less than a group
  for (const LayerLayout& layer : layout.layers) {
    const auto matrices = matrices_of(layer);
    for (size_t kind = 0; kind < matrices.size(); ++kind) {
      const WeightSource& weight = layout.weights[matrices[kind]];
      (*plans)[matrices[kind]].rank = std::min(kRanks[kind], static_cast<uint32_t>(std::min(weight.rows, weight.columns) / 32 * 32));
    }
  }
}

void plan_uniform_ranks(const ModelLayout& layout, uint64_t budget_bytes, int factor_bits, std::vector<MatrixPlan>* plans) {
  const std::vector<uint32_t> matrices = matrices_of_layers(layout);
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
