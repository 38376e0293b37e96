// HostProduct: a product of one matrix with some tokens on all the host's threads, for measuring.
#ifndef OUTRIGGER_SRC_DEVICE_HOST_PRODUCT_H_
#define OUTRIGGER_SRC_DEVICE_HOST_PRODUCT_H_

#include <outrigger/status.h>

#include <cstddef>
#include <cstdint>

#include "src/base/thread_team.h"
#include "src/device/backend.h"

namespace outrigger {

/// What is measured of weights of a few bits is of this kind: the most common one; others differ by a few per cent for each byte.
inline constexpr DType kMeasuredType = DType::kQ4_1;
inline constexpr PackedKind kMeasuredKind = PackedKind::kQ4_1;

/// Bytes that are valid as codes and, two at a time, as finite float16 scales, and that differ so that the multipliers have work.
void fill_weights(std::byte* data, uint64_t bytes);

/// Takes the bytes out of every cache.
void evict(const std::byte* data, uint64_t bytes);

class HostProduct {
 public:
  /// With activations as the fast path has them for this kind. Errors: kOutOfMemory.
  static Result<HostProduct> create(Backend& backend, ThreadTeam& team, PackedKind kind, size_t rows, size_t columns, size_t tokens);

  /// So many times, each thread its share again and again: they meet once, at the end.
  void run(ThreadTeam& team, int times = 1) const;
  /// Takes the weights out of every cache.
  void evict(ThreadTeam& team) const;

  uint64_t weight_bytes() const { return weights_.bytes(); }
  double ops() const { return 2.0 * static_cast<double>(rows_) * static_cast<double>(columns_) * static_cast<double>(tokens_); }

 private:
  PackedKind kind_ = kMeasuredKind;
  size_t rows_ = 0, columns_ = 0, tokens_ = 0;
  DeviceMemory weights_, activations_, dst_;  // activations_: a panel, or float32
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DEVICE_HOST_PRODUCT_H_
