// KvCache: the keys and values of one session, all layers, in memory, on a device or on disk.
#ifndef OUTRIGGER_SRC_MODEL_KV_CACHE_H_
#define OUTRIGGER_SRC_MODEL_KV_CACHE_H_

#include <outrigger/status.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "src/kernels/kv_layout.h"
#include "src/kernels/token_tree.h"
#include "src/memory/kv_spill.h"
#include "src/memory/residency.h"
#include "src/model/config.h"

namespace outrigger {

/// Where layers' keys and values are that are not in host memory.
struct KvPlaces {
  std::vector<bool> on_device;     ///< per layer; empty: none
  KvSpill* spill = nullptr;        ///< keeps spilled_layers of them on disk; must outlive the cache
  uint32_t spilled_layers = 0;     ///< not together with a device's
};

/// Each layer's keys, then its values, each in the layout of src/kernels/kv_layout.h: in host memory one layer after the other, in a
/// device's those whose attention it computes, and on disk the spilled ones, from where they pass through the slots of a KvSpill. Owned by
/// one session; movable.
/// Threads: what moves layers is for whoever holds the engine's lock on steps; the rest for whoever has the session.
class KvCache {
 public:
  KvCache() = default;
  /// Reserves room for `context_tokens`, rounded up to the interleave. Errors: kBudget, kOutOfMemory, kDevice.
  static Result<KvCache> reserve(TensorResidency& residency, const ModelConfig& config, KvType type, uint32_t context_tokens,
                                 const KvPlaces& places = {});
  /// Of so many layers.
  static uint64_t bytes(const ModelConfig& config, KvType type, uint32_t context_tokens, uint32_t layers);

  size_t capacity() const { return capacity_; }
  KvType type() const { return type_; }
  /// capacity() positions a head. Of a device's layer an address of the device, of a spilled one its place in its slot.
  std::byte* keys(uint32_t layer) const { return layers_[layer].keys; }
  std::byte* values(uint32_t layer) const { return layers_[layer].keys + side_bytes_; }

  /// Before a step's rows are appended to a spilled layer, and after they have attended: brings what is before them into the slot, and
  /// writes them back. `*moved` (where given) gets the bytes that this took. Allocate nothing. Errors: kIo.
  Status fetch(uint32_t layer, uint32_t first_position, uint32_t tokens, uint64_t* moved = nullptr) const;
  Status store(uint32_t layer, uint32_t first_position, uint32_t tokens, uint64_t* moved = nullptr) const;

  /// Of a tree whose root lies at `root` moves the path to `node` together behind it, in every layer: a device's layers there, a spilled
  /// layer's part with the tree by way of its slot. Allocates nothing. Errors: kDevice; kIo, for spilled layers only: what is behind the
  /// root is undefined then.
  Status keep_path(uint32_t root, const TokenTree& tree, size_t node, TensorResidency& residency) const;

  /// Bytes that the first `positions` take when written out, and the copying of them, head after head. What is on a device passes through
  /// the residency's transfer buffer. Errors: kIo, for spilled layers only; kDevice.
  uint64_t prefix_bytes(uint32_t positions) const;
  Status copy_prefix_to(uint32_t positions, std::span<std::byte> dst, TensorResidency& residency) const;
  Status copy_prefix_from(uint32_t positions, std::span<const std::byte> src, TensorResidency& residency);

 private:
  static constexpr uint32_t kNotSpilled = UINT32_MAX;
  struct Layer {
    std::byte* keys = nullptr;  // values follow
    bool is_on_device = false;
    uint32_t spilled = kNotSpilled;  // its number among the spilled ones

    bool is_spilled() const { return spilled != kNotSpilled; }
  };

  uint64_t head_bytes(size_t positions) const;
  KvRuns runs() const { return {2 * kv_heads_, head_bytes(capacity_)}; }

  MemoryLease lease_, device_lease_;
  KvSpillPart part_;
  std::vector<Layer> layers_;
  KvType type_ = KvType::kF16;
  uint32_t kv_heads_ = 0, head_dim_ = 0;
  size_t capacity_ = 0;
  uint64_t side_bytes_ = 0;  ///< of one layer's keys, or values
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_KV_CACHE_H_
