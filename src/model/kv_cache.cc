// Reserving and copying a session's keys and values.
#include "src/model/kv_cache.h"

#include <cstring>

#include "src/base/macros.h"

namespace outrigger {

uint64_t KvCache::layer_bytes(const ModelConfig& config, KvType type, uint32_t context_tokens) {
  return 2 * kv_head_offset(type, config.head_dim, kv_positions(context_tokens), config.kv_heads);
}

uint64_t KvCache::bytes(const ModelConfig& config, KvType type, uint32_t context_tokens, uint32_t spilled_layers) {
  return uint64_t{config.layers - spilled_layers} * layer_bytes(config, type, context_tokens);
}

Result<KvCache> KvCache::reserve(TensorResidency& residency, const ModelConfig& config, KvType type, uint32_t context_tokens, KvSpill* spill,
                                 uint32_t spilled_layers) {
  KvCache cache;
  if (spilled_layers > 0) {
    OTR_ASSIGN(cache.part_, spill->take(whole_kv_pages(layer_bytes(config, type, context_tokens))));
  }
  OTR_ASSIGN(cache.lease_, residency.reserve(MemoryUse::kKvCache, bytes(config, type, context_tokens, spilled_layers)));
  cache.type_ = type;
  cache.layers_ = config.layers;
  cache.spilled_layers_ = spilled_layers;
  cache.kv_heads_ = config.kv_heads;
  cache.head_dim_ = config.head_dim;
  cache.capacity_ = kv_positions(context_tokens);
  cache.side_bytes_ = kv_head_offset(type, cache.head_dim_, cache.capacity_, cache.kv_heads_);
  return cache;
}

uint64_t KvCache::head_bytes(size_t positions) const { return kv_head_offset(type_, head_dim_, kv_positions(positions), 1); }

uint64_t KvCache::prefix_bytes(uint32_t positions) const { return uint64_t{layers_} * 2 * kv_heads_ * head_bytes(positions); }

// Blocks that the step begins hold what another layer or session left in the slot: cleared, so that what is saved is the same wherever it was.
Status KvCache::fetch(uint32_t layer, uint32_t first_position, uint32_t tokens, uint64_t* moved) const {
  KvSpill& spill = *part_.spill();
  const uint64_t before = spill.bytes_read(), prefix = head_bytes(first_position), end = head_bytes(first_position + tokens);
  OTR_TRY(spill.fetch(part_, spilled_before(layer), runs(), prefix));
  for (uint32_t run = 0; run < 2 * kv_heads_ && end > prefix; ++run) std::memset(base(layer) + run * head_bytes(capacity_) + prefix, 0, end - prefix);
  if (moved != nullptr) *moved += spill.bytes_read() - before;
  return {};
}

Status KvCache::store(uint32_t layer, uint32_t first_position, uint32_t tokens, uint64_t* moved) const {
  KvSpill& spill = *part_.spill();
  const uint64_t before = spill.bytes_written(), begin = head_bytes(first_position / kKvInterleave * kKvInterleave);
  OTR_TRY(spill.store(part_, spilled_before(layer), runs(), begin, head_bytes(first_position + tokens)));
  if (moved != nullptr) *moved += spill.bytes_written() - before;
  return {};
}

Status KvCache::copy_prefix_to(uint32_t positions, std::span<std::byte> dst) const {
  const uint64_t bytes = head_bytes(positions), stride = head_bytes(capacity_);
  if (bytes == 0) return {};
  std::byte* to = dst.data();
  for (uint32_t layer = 0; layer < layers_; ++layer) {
    if (is_spilled(layer)) OTR_TRY(fetch(layer, positions, 0));
    for (uint32_t run = 0; run < 2 * kv_heads_; ++run, to += bytes) std::memcpy(to, base(layer) + run * stride, bytes);
  }
  return {};
}

Status KvCache::copy_prefix_from(uint32_t positions, std::span<const std::byte> src) {
  const uint64_t bytes = head_bytes(positions), stride = head_bytes(capacity_);
  if (bytes == 0) return {};
  const std::byte* from = src.data();
  for (uint32_t layer = 0; layer < layers_; ++layer) {
    for (uint32_t run = 0; run < 2 * kv_heads_; ++run, from += bytes) std::memcpy(base(layer) + run * stride, from, bytes);
    if (is_spilled(layer)) OTR_TRY(store(layer, 0, positions));
  }
  return {};
}

}  // namespace outrigger
