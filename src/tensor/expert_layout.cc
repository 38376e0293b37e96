// ExpertLayout: sums over the matrices of an expert.
#include "src/tensor/expert_layout.h"

#include <algorithm>

#include "src/base/checked.h"
#include "src/tensor/stream_layout.h"

namespace outrigger {
namespace {

uint64_t saturated(CheckedSize size) { return size.value().value_or(UINT64_MAX); }

uint64_t whole_pages(uint64_t bytes) { return saturated(CheckedSize(bytes).round_up(kReadAlignment)); }

void add_part(const MatrixShape& matrix, uint32_t index, ExpertLayer* layer) {
  ExpertPart part;
  part.matrix = index;
  part.blocks = static_cast<uint32_t>(matrix.expert_packed_bytes() / matrix.row_block_bytes);
  part.blocks_of_read =
      static_cast<uint32_t>(std::clamp<uint64_t>(kMostReadBytes / matrix.row_block_file_bytes, 1, std::max(part.blocks, 1u)));
  part.slot_offset = layer->slot_bytes;
  part.arrival_offset = layer->arrival_bytes;
  part.read_room_bytes =
      whole_pages(saturated(CheckedSize(matrix.row_block_file_bytes) * CheckedSize(part.blocks_of_read) + (kReadAlignment - 1)));
  layer->slot_bytes = saturated(CheckedSize(layer->slot_bytes) + matrix.expert_packed_bytes());
  layer->arrival_bytes = saturated(CheckedSize(layer->arrival_bytes) + CheckedSize(part.read_room_bytes) * CheckedSize(part.reads()));
  layer->parts.push_back(part);
}

uint64_t largest(const std::vector<ExpertLayer>& layers, uint64_t ExpertLayer::*bytes) {
  uint64_t most = 0;
  for (const ExpertLayer& layer : layers) most = std::max(most, layer.*bytes);
  return whole_pages(most);
}

}  // namespace

uint32_t ExpertLayer::reads() const {
  uint32_t sum = 0;
  for (const ExpertPart& part : parts) sum += part.reads();
  return sum;
}

std::vector<ExpertLayer> expert_layers(const StepShape& shape) {
  std::vector<ExpertLayer> layers;
  for (uint32_t i = 0; i < shape.matrices.size(); ++i) {
    const MatrixShape& matrix = shape.matrices[i];
    if (matrix.use != MatrixUse::kRouted) continue;
    if (layers.empty() || layers.back().layer != matrix.layer) layers.emplace_back().layer = matrix.layer;
    add_part(matrix, i, &layers.back());
  }
  return layers;
}

uint64_t expert_slot_bytes(const std::vector<ExpertLayer>& layers) { return largest(layers, &ExpertLayer::slot_bytes); }
uint64_t expert_arrival_bytes(const std::vector<ExpertLayer>& layers) { return largest(layers, &ExpertLayer::arrival_bytes); }

}  // namespace outrigger
