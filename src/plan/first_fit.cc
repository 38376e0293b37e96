// FirstFit: the order of the matrices, and sums over its beginnings.
#include "src/plan/first_fit.h"

#include <algorithm>
#include <limits>

#include "src/plan/memory_model.h"

namespace outrigger {
namespace {

__extension__ using Wide = unsigned __int128;

// File bytes per resident byte, compared without division: the machine's rates do not change which matrix is denser, because repacking
// costs every packed byte the same.
bool is_denser(const MatrixShape& a, const MatrixShape& b) {
  return Wide{a.file_bytes} * resident_bytes(b) > Wide{b.file_bytes} * resident_bytes(a);
}

// Multiples of the golden section, as fractions of 2^32: the ranks whose key is below any bound lie evenly (the gaps between them take at
// most three lengths), and no period of a layer's matrices falls in step with them, as it would with bit-reversed ranks.
uint32_t spread_key(size_t rank) { return static_cast<uint32_t>(rank) * 0x9e3779b9u; }

}  // namespace

std::vector<uint32_t> residency_order(const StepShape& shape, std::span<const uint32_t> matrices) {
  std::vector<uint32_t> order(matrices.begin(), matrices.end());
  const auto denser = [&shape](uint32_t a, uint32_t b) { return is_denser(shape.matrices[a], shape.matrices[b]); };
  std::stable_sort(order.begin(), order.end(), denser);
  // Equals are now in the order of the step.
  std::vector<std::pair<uint32_t, uint32_t>> spread;
  for (auto first = order.begin(); first != order.end();) {
    const auto last = std::find_if(first, order.end(), [&](uint32_t matrix) { return denser(*first, matrix); });
    spread.clear();
    for (auto it = first; it != last; ++it) spread.emplace_back(spread_key(static_cast<size_t>(it - first)), *it);
    std::sort(spread.begin(), spread.end());
    for (const auto& [key, matrix] : spread) *first++ = matrix;
  }
  return order;
}

FirstFit::FirstFit(const StepShape& shape, std::vector<uint32_t> order) : order_(std::move(order)) {
  each_.reserve(order_.size());
  before_.reserve(order_.size() + 1);
  before_.emplace_back();
  for (uint32_t index : order_) {
    const MatrixShape& matrix = shape.matrices[index];
    each_.push_back({resident_bytes(matrix), matrix.packed_bytes, matrix.file_bytes});
    const Taken &sum = before_.back(), &own = each_.back();
    before_.push_back({add_bytes(sum.resident_bytes, own.resident_bytes), add_bytes(sum.packed_bytes, own.packed_bytes),
                       add_bytes(sum.file_bytes, own.file_bytes)});
  }
  smallest_from_.assign(order_.size() + 1, std::numeric_limits<uint64_t>::max());
  for (size_t i = order_.size(); i-- > 0;) smallest_from_[i] = std::min(smallest_from_[i + 1], each_[i].resident_bytes);
}

size_t FirstFit::whole_prefix(uint64_t capacity_bytes) const {
  const auto beyond = std::upper_bound(before_.begin(), before_.end(), capacity_bytes,
                                       [](uint64_t capacity, const Taken& sum) { return capacity < sum.resident_bytes; });
  return static_cast<size_t>(beyond - before_.begin()) - 1;
}

}  // namespace outrigger
