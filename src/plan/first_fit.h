// FirstFit: which of the matrices that every step uses are kept resident in a given number of bytes.
#ifndef OUTRIGGER_SRC_PLAN_FIRST_FIT_H_
#define OUTRIGGER_SRC_PLAN_FIRST_FIT_H_

#include <outrigger/step_shape.h>

#include <cstdint>
#include <span>
#include <vector>

namespace outrigger {

/// Matrices in the order in which they deserve memory: file bytes saved per resident byte, and among equals (as a rule: all) such that
/// any first few are spread evenly over the step, so that reading and computing overlap everywhere.
std::vector<uint32_t> residency_order(const StepShape& shape, std::span<const uint32_t> matrices);

/// Goes through matrices in that order and takes each that still fits. More capacity never saves fewer bytes, in the file's layout or
/// the packed one: what passing over a large matrix lets in behind it is together smaller, and nowhere denser, than the matrix.
class FirstFit {
 public:
  struct Taken {
    uint64_t resident_bytes = 0, packed_bytes = 0, file_bytes = 0;
  };

  /// `order` as residency_order() gives it.
  FirstFit(const StepShape& shape, std::vector<uint32_t> order);

  /// What fits into `capacity_bytes`. Cost: logarithmic to the first matrix that does not fit, linear from there to the last that may.
  Taken take(uint64_t capacity_bytes) const {
    return take(capacity_bytes, [](uint32_t) {});
  }
  /// The same; on_taken(matrix) for each.
  template <typename OnTaken>
  Taken take(uint64_t capacity_bytes, OnTaken on_taken) const;

  Taken total() const { return before_.back(); }
  size_t count() const { return order_.size(); }

 private:
  size_t whole_prefix(uint64_t capacity_bytes) const;

  std::vector<uint32_t> order_;
  std::vector<Taken> each_;
  std::vector<Taken> before_;            ///< before_[i]: the sum of the first i
  std::vector<uint64_t> smallest_from_;  ///< smallest_from_[i]: the least resident_bytes from i on
};

template <typename OnTaken>
FirstFit::Taken FirstFit::take(uint64_t capacity_bytes, OnTaken on_taken) const {
  const size_t prefix = whole_prefix(capacity_bytes);
  for (size_t i = 0; i < prefix; ++i) on_taken(order_[i]);
  Taken taken = before_[prefix];
  for (size_t i = prefix; i < order_.size() && smallest_from_[i] <= capacity_bytes - taken.resident_bytes; ++i) {
    if (each_[i].resident_bytes > capacity_bytes - taken.resident_bytes) continue;
    taken.resident_bytes += each_[i].resident_bytes;
    taken.packed_bytes += each_[i].packed_bytes;
    taken.file_bytes += each_[i].file_bytes;
    on_taken(order_[i]);
  }
  return taken;
}

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_PLAN_FIRST_FIT_H_
