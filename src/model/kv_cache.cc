// Reserving and copying a session's keys and values.
#include "src/model/kv_cache.h"

#include <cstring>

#include "src/base/macros.h"

namespace outrigger {

uint64_t KvCache::bytes(const ModelConfig& config, KvType type, uint32_t context_tokens) {
  return uint64_t{config.layers} * 2 * kv_head_offset(type, config.head_dim, kv_positions(context_tokens), config.kv_heads);
}

Result<KvCache> KvCache::reserve(TensorResidency& residency, const ModelConfig& config, KvType type, uint32_t context_tokens) {
  KvCache cache;
  OTR_ASSIGN(cache.lease_, residency.reserve(MemoryUse::kKvCache, bytes(config, type, context_tokens)));
  cache.type_ = type;
  cache.layers_ = config.layers;
  cache.kv_heads_ = config.kv_heads;
  cache.head_dim_ = config.head_dim;
  cache.capacity_ = kv_positions(context_tokens);
  cache.side_bytes_ = kv_head_offset(type, cache.head_dim_, cache.capacity_, cache.kv_heads_);
  return cache;
}

uint64_t KvCache::head_bytes(size_t positions) const { return kv_head_offset(type_, head_dim_, kv_positions(positions), 1); }

uint64_t KvCache::prefix_bytes(uint32_t positions) const { return uint64_t{layers_} * 2 * kv_heads_ * head_bytes(positions); }

void KvCache::copy_prefix_to(uint32_t positions, std::span<std::byte> dst) const {
  const uint64_t bytes = head_bytes(positions), stride = head_bytes(capacity_);
  if (bytes == 0) return;
  std::byte* to = dst.data();
  for (uint32_t sides = 0; sides < layers_ * 2; ++sides) {
    for (uint32_t head = 0; head < kv_heads_; ++head, to += bytes) {
      std::memcpy(to, lease_.data() + sides * side_bytes_ + head * stride, bytes);
    }
  }
}

void KvCache::copy_prefix_from(uint32_t positions, std::span<const std::byte> src) {
  const uint64_t bytes = head_bytes(positions), stride = head_bytes(capacity_);
  if (bytes == 0) return;
  const std::byte* from = src.data();
  for (uint32_t sides = 0; sides < layers_ * 2; ++sides) {
    for (uint32_t head = 0; head < kv_heads_; ++head, from += bytes) {
      std::memcpy(lease_.data() + sides * side_bytes_ + head * stride, from, bytes);
    }
  }
}

}  // namespace outrigger
