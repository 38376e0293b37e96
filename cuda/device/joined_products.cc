// Which products may be joined.
#include "cuda/device/joined_products.h"

#include <algorithm>
#include <utility>

namespace outrigger::cuda {
namespace {

// Whether they write different floats: into other memory, or into other columns of the same rows, as a window's results may lie.
bool are_apart(const MatmulArgs& a, const MatmulArgs& b) {
  const bool is_first = reinterpret_cast<uintptr_t>(a.dst) <= reinterpret_cast<uintptr_t>(b.dst);
  const MatmulArgs &low = is_first ? a : b, &high = is_first ? b : a;
  const size_t offset = (reinterpret_cast<uintptr_t>(high.dst) - reinterpret_cast<uintptr_t>(low.dst)) / sizeof(float);
  if (offset >= (low.tokens - 1) * low.dst_stride + low.rows) return true;
  return low.dst_stride == high.dst_stride && offset >= low.rows && offset + high.rows <= low.dst_stride;
}

}  // namespace

bool JoinedProducts::add(const MatmulArgs& args) {
  if (count_ == products_.size()) return false;
  const auto fits = [&args](const MatmulArgs& other) { return are_apart(other, args); };
  if (count_ > 0 && (!can_join(products_[0], args) || !std::all_of(products_.begin(), products_.begin() + count_, fits))) return false;
  products_[count_++] = args;
  return true;
}

std::span<const MatmulArgs> JoinedProducts::take() { return std::span(products_).first(std::exchange(count_, 0)); }

}  // namespace outrigger::cuda
