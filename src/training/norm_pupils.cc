// NormPupils: gathered into one array, moved, and put back.
#include "src/training/norm_pupils.h"

#include <algorithm>

namespace outrigger {
namespace {

void add_norms(const LayerLayout& layer, std::vector<uint64_t>* offsets) {
  offsets->insert(offsets->end(), {layer.attention_norm, layer.ffn_norm, layer.query_norm, layer.key_norm});
}

std::vector<uint64_t> offsets_of_norms(const ModelLayout& layout, std::optional<uint32_t> layer) {
  std::vector<uint64_t> offsets;
  if (layer) {
    add_norms(layout.layers[*layer], &offsets);
    return offsets;
  }
  for (const LayerLayout& one : layout.layers) add_norms(one, &offsets);
  offsets.push_back(layout.output_norm);
  return offsets;
}

}  // namespace

NormPupils::NormPupils(const ModelLayout& layout, std::optional<uint32_t> layer, std::span<float> fixed, ThreadTeam& team)
    : fixed_(fixed), team_(team), adam_(0) {
  const std::vector<uint64_t> offsets = offsets_of_norms(layout, layer);
  for (const FixedTensor& tensor : layout.fixed) {
    if (tensor.type != DType::kF32 || std::find(offsets.begin(), offsets.end(), tensor.offset) == offsets.end()) continue;
    norms_.push_back({tensor.file_offset, tensor.offset, tensor.elements});
    first_.insert(first_.end(), fixed.begin() + static_cast<ptrdiff_t>(tensor.offset),
                  fixed.begin() + static_cast<ptrdiff_t>(tensor.offset + tensor.elements));
  }
  multiples_.assign(first_.size(), 1);
  gradients_.assign(first_.size(), 0);
  adam_ = Adam(first_.size());
}

void NormPupils::step(std::span<const float> gradients, float rate) {
  size_t at = 0;
  for (const Norm& norm : norms_) {
    for (uint64_t i = 0; i < norm.elements; ++i, ++at) gradients_[at] = gradients[norm.offset + i] * first_[at];
  }
  adam_.step(multiples_, gradients_, rate, team_);
  show();
}

void NormPupils::retreat(float part) {
  for (float& multiple : multiples_) multiple = 1 + part * (multiple - 1);
  show();
}

void NormPupils::reset() {
  std::fill(multiples_.begin(), multiples_.end(), 1.0f);
  show();
}

void NormPupils::show() {
  size_t at = 0;
  for (const Norm& norm : norms_) {
    for (uint64_t i = 0; i < norm.elements; ++i, ++at) fixed_[norm.offset + i] = first_[at] * multiples_[at];
  }
}

std::vector<TrainedNorm> NormPupils::norms() const {
  std::vector<TrainedNorm> norms;
  for (const Norm& norm : norms_) {
    const auto begin = fixed_.begin() + static_cast<ptrdiff_t>(norm.offset);
    norms.push_back({norm.file_offset, LeasedVector<float>(begin, begin + static_cast<ptrdiff_t>(norm.elements))});
  }
  return norms;
}

}  // namespace outrigger
