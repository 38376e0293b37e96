// KvCache: the keys and values of one session, all layers, in memory or on disk.
#ifndef OUTRIGGER_SRC_MODEL_KV_CACHE_H_
#define OUTRIGGER_SRC_MODEL_KV_CACHE_H_

#include <outrigger/status.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "src/kernels/kv_layout.h"
#include "src/memory/kv_spill.h"
#include "src/memory/residency.h"
#include "src/model/config.h"

namespace outrigger {

/// Each layer's keys, then its values, each in the layout of src/kernels/kv_layout.h; the layers that are resident one after the other, the spilled
/// ones on disk, from where they pass through the slots of a KvSpill. Owned by one session; movable.
/// Threads: what moves spilled layers is for whoever holds the engine's lock on steps; the rest for whoever has the session.
class KvCache {
 public:
  KvCache() = default;
  /// Reserves room for `context_tokens`, rounded up to the interleave; `spill` (null: none) keeps `spilled_layers` of the layers and must outlive the
  /// cache. Errors: kBudget, kOutOfMemory.
  static Result<KvCache> reserve(TensorResidency& residency, const ModelConfig& config, KvType type, uint32_t context_tokens, KvSpill* spill = nullptr,
                                 uint32_t spilled_layers = 0);
  /// Of the layers that are resident.
  static uint64_t bytes(const ModelConfig& config, KvType type, uint32_t context_tokens, uint32_t spilled_layers = 0);
  /// Of one layer.
  static uint64_t layer_bytes(const ModelConfig& config, KvType type, uint32_t context_tokens);

  size_t capacity() const { return capacity_; }
  KvType type() const { return type_; }
  /// capacity() positions a head. Of a spilled layer: its place in its slot.
  std::byte* keys(uint32_t layer) const { return base(layer); }
  std::byte* values(uint32_t layer) const { return base(layer) + side_bytes_; }

  /// Before a step's rows are appended to a spilled layer, and after they have attended: brings what is before them into the slot, and writes them
  /// back. `*moved` (where given) gets the bytes that this took. Allocate nothing. Errors: kIo.
  Status fetch(uint32_t layer, uint32_t first_position, uint32_t tokens, uint64_t* moved = nullptr) const;
  Status store(uint32_t layer, uint32_t first_position, uint32_t tokens, uint64_t* moved = nullptr) const;

  /// Bytes that the first `positions` take when written out, and the copying of them, head after head. Errors: kIo, for spilled layers only.
  uint64_t prefix_bytes(uint32_t positions) const;
  Status copy_prefix_to(uint32_t positions, std::span<std::byte> dst) const;
  Status copy_prefix_from(uint32_t positions, std::span<const std::byte> src);

 private:
  bool is_spilled(uint32_t layer) const { return is_kv_spilled(layers_, spilled_layers_, layer); }
  uint32_t spilled_before(uint32_t layer) const { return kv_spilled_before(layers_, spilled_layers_, layer); }
  std::byte* base(uint32_t layer) const {
    const uint32_t spilled = spilled_before(layer);
    return is_spilled(layer) ? part_.spill()->slot(spilled) + part_.offset() : lease_.data() + uint64_t{layer - spilled} * 2 * side_bytes_;
  }
  uint64_t head_bytes(size_t positions) const;
  KvRuns runs() const { return {2 * kv_heads_, head_bytes(capacity_)}; }

  MemoryLease lease_;
  KvSpillPart part_;
  KvType type_ = KvType::kF16;
  uint32_t layers_ = 1, spilled_layers_ = 0, kv_heads_ = 0, head_dim_ = 0;
  size_t capacity_ = 0;
  uint64_t side_bytes_ = 0;  ///< of one layer's keys, or values
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_KV_CACHE_H_
