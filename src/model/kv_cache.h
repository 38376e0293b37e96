// KvCache: the keys and values of one session, all layers.
#ifndef OUTRIGGER_SRC_MODEL_KV_CACHE_H_
#define OUTRIGGER_SRC_MODEL_KV_CACHE_H_

#include <outrigger/status.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "src/kernels/kv_layout.h"
#include "src/memory/residency.h"
#include "src/model/config.h"

namespace outrigger {

/// Layer after layer, keys then values, each in the layout of src/kernels/kv_layout.h. Owned by one session; movable.
class KvCache {
 public:
  KvCache() = default;
  /// Reserves room for `context_tokens`, rounded up to the interleave. Errors: kBudget, kOutOfMemory.
  static Result<KvCache> reserve(TensorResidency& residency, const ModelConfig& config, KvType type, uint32_t context_tokens);
  static uint64_t bytes(const ModelConfig& config, KvType type, uint32_t context_tokens);

  size_t capacity() const { return capacity_; }
  KvType type() const { return type_; }
  /// capacity() positions a head.
  std::byte* keys(uint32_t layer) const { return side(layer, 0); }
  std::byte* values(uint32_t layer) const { return side(layer, 1); }

  /// Bytes that the first `positions` take when written out, and the copying of them, head after head.
  uint64_t prefix_bytes(uint32_t positions) const;
  void copy_prefix_to(uint32_t positions, std::span<std::byte> dst) const;
  void copy_prefix_from(uint32_t positions, std::span<const std::byte> src);

 private:
  std::byte* side(uint32_t layer, uint32_t which) const { return lease_.data() + (uint64_t{layer} * 2 + which) * side_bytes_; }
  uint64_t head_bytes(size_t positions) const;

  MemoryLease lease_;
  KvType type_ = KvType::kF16;
  uint32_t layers_ = 0, kv_heads_ = 0, head_dim_ = 0;
  size_t capacity_ = 0;
  uint64_t side_bytes_ = 0;  ///< of one layer's keys, or values
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_KV_CACHE_H_
