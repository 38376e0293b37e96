// KvCache: the keys and values of one session, all layers.
#ifndef OUTRIGGER_SRC_MODEL_KV_CACHE_H_
#define OUTRIGGER_SRC_MODEL_KV_CACHE_H_

#include <outrigger/status.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "src/kernels/kv_layout.h"
#include "src/memory/residency.h"
#include "src/model/config.h"

namespace outrigger {

/// Layer after layer, keys then values, each in the layout of src/kernels/kv_layout.h: the layers whose attention a device computes in its memory,
/// the others in the host's. Owned by one session; movable.
class KvCache {
 public:
  KvCache() = default;
  /// Reserves room for `context_tokens`, rounded up to the interleave. `on_device`: per layer; empty for none.
  /// Errors: kBudget, kOutOfMemory, kDevice.
  static Result<KvCache> reserve(TensorResidency& residency, const ModelConfig& config, KvType type, uint32_t context_tokens,
                                 const std::vector<bool>& on_device = {});
  /// Of so many layers.
  static uint64_t bytes(const ModelConfig& config, KvType type, uint32_t context_tokens, uint32_t layers);

  size_t capacity() const { return capacity_; }
  KvType type() const { return type_; }
  /// capacity() positions a head; of a device's layer an address of the device.
  std::byte* keys(uint32_t layer) const { return layers_[layer].keys; }
  std::byte* values(uint32_t layer) const { return layers_[layer].keys + side_bytes_; }

  /// Bytes that the first `positions` take when written out, and the copying of them, head after head. What is on a device passes through the
  /// residency's transfer buffer. Errors: kDevice.
  uint64_t prefix_bytes(uint32_t positions) const;
  Status copy_prefix_to(uint32_t positions, std::span<std::byte> dst, TensorResidency& residency) const;
  Status copy_prefix_from(uint32_t positions, std::span<const std::byte> src, TensorResidency& residency);

 private:
  struct Layer {
    std::byte* keys = nullptr;  // values follow
    bool is_on_device = false;
  };

  uint64_t head_bytes(size_t positions) const;
  /// Calls copy(layer, address of a head's first position) -> Status, head after head.
  template <typename Copy>
  Status for_each_head(Copy copy) const;

  MemoryLease lease_, device_lease_;
  std::vector<Layer> layers_;
  KvType type_ = KvType::kF16;
  uint32_t kv_heads_ = 0, head_dim_ = 0;
  size_t capacity_ = 0;
  uint64_t side_bytes_ = 0;  ///< of one layer's keys, or values
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_KV_CACHE_H_
