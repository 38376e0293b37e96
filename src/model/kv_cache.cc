// Reserving and copying a session's keys and values.
#include "src/model/kv_cache.h"

#include <algorithm>
#include <cstring>

#include "src/base/macros.h"

namespace outrigger {

uint64_t KvCache::bytes(const ModelConfig& config, KvType type, uint32_t context_tokens, uint32_t layers) {
  return uint64_t{layers} * 2 * kv_head_offset(type, config.head_dim, kv_positions(context_tokens), config.kv_heads);
}

Result<KvCache> KvCache::reserve(TensorResidency& residency, const ModelConfig& config, KvType type, uint32_t context_tokens,
                                 const std::vector<bool>& on_device) {
  KvCache cache;
  cache.type_ = type;
  cache.kv_heads_ = config.kv_heads;
  cache.head_dim_ = config.head_dim;
  cache.capacity_ = kv_positions(context_tokens);
  cache.side_bytes_ = kv_head_offset(type, cache.head_dim_, cache.capacity_, cache.kv_heads_);
  const auto there = static_cast<uint32_t>(std::count(on_device.begin(), on_device.end(), true));
  OTR_ASSIGN(cache.lease_, residency.reserve(MemoryUse::kKvCache, bytes(config, type, context_tokens, config.layers - there)));
  if (there > 0) {
    OTR_ASSIGN(cache.device_lease_, residency.device()->reserve(MemoryUse::kKvCache, bytes(config, type, context_tokens, there)));
  }
  std::byte *next = cache.lease_.data(), *next_there = cache.device_lease_.data();
  for (uint32_t layer = 0; layer < config.layers; ++layer) {
    const bool is_there = !on_device.empty() && on_device[layer];
    std::byte*& keys = is_there ? next_there : next;
    cache.layers_.push_back({keys, is_there});
    keys += 2 * cache.side_bytes_;
  }
  return cache;
}

uint64_t KvCache::head_bytes(size_t positions) const { return kv_head_offset(type_, head_dim_, kv_positions(positions), 1); }

uint64_t KvCache::prefix_bytes(uint32_t positions) const { return uint64_t{layers_.size()} * 2 * kv_heads_ * head_bytes(positions); }

template <typename Copy>
Status KvCache::for_each_head(Copy copy) const {
  const uint64_t stride = head_bytes(capacity_);
  for (const Layer& layer : layers_) {
    for (uint32_t head = 0; head < 2 * kv_heads_; ++head) {  // of the keys, then of the values
      std::byte* const side = layer.keys + head / kv_heads_ * side_bytes_;
      OTR_TRY(copy(layer, side + head % kv_heads_ * stride));
    }
  }
  return {};
}

Status KvCache::copy_prefix_to(uint32_t positions, std::span<std::byte> dst, TensorResidency& residency) const {
  const uint64_t bytes = head_bytes(positions);
  if (bytes == 0) return {};
  std::byte* to = dst.data();
  return for_each_head([&](const Layer& layer, const std::byte* from) -> Status {
    if (layer.is_on_device) {
      OTR_TRY(residency.device()->download_through(residency.transfer(), to, from, bytes));
    } else {
      std::memcpy(to, from, bytes);
    }
    to += bytes;
    return {};
  });
}

Status KvCache::copy_prefix_from(uint32_t positions, std::span<const std::byte> src, TensorResidency& residency) {
  const uint64_t bytes = head_bytes(positions);
  if (bytes == 0) return {};
  const std::byte* from = src.data();
  return for_each_head([&](const Layer& layer, std::byte* to) -> Status {
    if (layer.is_on_device) {
      OTR_TRY(residency.device()->upload_through(residency.transfer(), to, from, bytes));
    } else {
      std::memcpy(to, from, bytes);
    }
    from += bytes;
    return {};
  });
}

}  // namespace outrigger
