// Reserving and copying a session's keys and values.
#include "src/model/kv_cache.h"

#include <cstring>

#include "src/base/macros.h"

namespace outrigger {
namespace {

uint64_t element_bytes(KvType type) { return type == KvType::kF32 ? sizeof(float) : sizeof(uint16_t); }

}  // namespace

uint64_t KvCache::bytes(const ModelConfig& config, KvType type, uint32_t context_tokens) {
  return uint64_t{config.layers} * 2 * config.kv_width() * kv_positions(context_tokens) * element_bytes(type);
}

Result<KvCache> KvCache::reserve(TensorResidency& residency, const ModelConfig& config, KvType type, uint32_t context_tokens) {
  KvCache cache;
  OTR_ASSIGN(cache.lease_, residency.reserve(MemoryUse::kKvCache, bytes(config, type, context_tokens)));
  cache.type_ = type;
  cache.layers_ = config.layers;
  cache.kv_heads_ = config.kv_heads;
  cache.head_dim_ = config.head_dim;
  cache.capacity_ = kv_positions(context_tokens);
  cache.side_bytes_ = cache.kv_heads_ * cache.capacity_ * cache.position_bytes();
  return cache;
}

uint64_t KvCache::position_bytes() const { return head_dim_ * element_bytes(type_); }

uint64_t KvCache::prefix_bytes(uint32_t positions) const {
  return uint64_t{layers_} * 2 * kv_heads_ * kv_positions(positions) * position_bytes();
}

void KvCache::copy_prefix_to(uint32_t positions, std::span<std::byte> dst) const {
  const uint64_t head_bytes = kv_positions(positions) * position_bytes();
  if (head_bytes == 0) return;
  std::byte* to = dst.data();
  for (uint32_t sides = 0; sides < layers_ * 2; ++sides) {
    for (uint32_t head = 0; head < kv_heads_; ++head, to += head_bytes) {
      std::memcpy(to, lease_.data() + sides * side_bytes_ + head * capacity_ * position_bytes(), head_bytes);
    }
  }
}

void KvCache::copy_prefix_from(uint32_t positions, std::span<const std::byte> src) {
  const uint64_t head_bytes = kv_positions(positions) * position_bytes();
  if (head_bytes == 0) return;
  const std::byte* from = src.data();
  for (uint32_t sides = 0; sides < layers_ * 2; ++sides) {
    for (uint32_t head = 0; head < kv_heads_; ++head, from += head_bytes) {
      std::memcpy(lease_.data() + sides * side_bytes_ + head * capacity_ * position_bytes(), from, head_bytes);
    }
  }
}

}  // namespace outrigger
