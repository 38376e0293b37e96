// Reserving, moving and copying a session's keys and values.
#include "src/model/kv_cache.h"

#include <algorithm>
#include <cstring>

#include "src/base/macros.h"
#include "src/kernels/move_kv.h"

namespace outrigger {

uint64_t KvCache::bytes(const ModelConfig& config, KvType type, uint32_t context_tokens, uint32_t layers) {
  return uint64_t{layers} * 2 * kv_head_offset(type, config.head_dim, kv_positions(context_tokens), config.kv_heads);
}

Result<KvCache> KvCache::reserve(TensorResidency& residency, const ModelConfig& config, KvType type, uint32_t context_tokens,
                                 const KvPlaces& places) {
  KvCache cache;
  cache.type_ = type;
  cache.kv_heads_ = config.kv_heads;
  cache.head_dim_ = config.head_dim;
  cache.capacity_ = kv_positions(context_tokens);
  cache.side_bytes_ = kv_head_offset(type, cache.head_dim_, cache.capacity_, cache.kv_heads_);
  const auto there = static_cast<uint32_t>(std::count(places.on_device.begin(), places.on_device.end(), true));
  const uint32_t spilled = places.spilled_layers;
  if (spilled > 0) {
    OTR_ASSIGN(cache.part_, places.spill->take(whole_kv_pages(2 * cache.side_bytes_)));
  }
  OTR_ASSIGN(cache.lease_, residency.reserve(MemoryUse::kKvCache, bytes(config, type, context_tokens, config.layers - there - spilled)));
  if (there > 0) {
    OTR_ASSIGN(cache.device_lease_, residency.device()->reserve(MemoryUse::kKvCache, bytes(config, type, context_tokens, there)));
  }
  std::byte *next = cache.lease_.data(), *next_there = cache.device_lease_.data();
  for (uint32_t layer = 0; layer < config.layers; ++layer) {
    if (is_kv_spilled(config.layers, spilled, layer)) {
      const uint32_t number = kv_spilled_before(config.layers, spilled, layer);
      cache.layers_.push_back({places.spill->slot(number) + cache.part_.offset(), false, number});
      continue;
    }
    const bool is_there = there > 0 && places.on_device[layer];
    std::byte*& keys = is_there ? next_there : next;
    cache.layers_.push_back({keys, is_there, kNotSpilled});
    keys += 2 * cache.side_bytes_;
  }
  return cache;
}

uint64_t KvCache::head_bytes(size_t positions) const { return kv_head_offset(type_, head_dim_, kv_positions(positions), 1); }

uint64_t KvCache::prefix_bytes(uint32_t positions) const { return uint64_t{layers_.size()} * 2 * kv_heads_ * head_bytes(positions); }

// Blocks that the step begins hold what another layer or session left in the slot: cleared, so that what is saved is the same wherever it
// was.
Status KvCache::fetch(uint32_t layer, uint32_t first_position, uint32_t tokens, uint64_t* moved) const {
  KvSpill& spill = *part_.spill();
  const uint64_t before = spill.bytes_read(), prefix = head_bytes(first_position), end = head_bytes(first_position + tokens);
  OTR_TRY(spill.fetch(part_, layers_[layer].spilled, runs(), 0, prefix));
  for (uint32_t run = 0; run < 2 * kv_heads_ && end > prefix; ++run)
    std::memset(keys(layer) + run * head_bytes(capacity_) + prefix, 0, end - prefix);
  if (moved != nullptr) *moved += spill.bytes_read() - before;
  return {};
}

Status KvCache::store(uint32_t layer, uint32_t first_position, uint32_t tokens, uint64_t* moved) const {
  KvSpill& spill = *part_.spill();
  const uint64_t before = spill.bytes_written(), begin = head_bytes(first_position / kKvInterleave * kKvInterleave);
  OTR_TRY(spill.store(part_, layers_[layer].spilled, runs(), begin, head_bytes(first_position + tokens)));
  if (moved != nullptr) *moved += spill.bytes_written() - before;
  return {};
}

Status KvCache::keep_path(uint32_t root, const TokenTree& tree, size_t node, TensorResidency& residency) const {
  MoveKvArgs moves = path_moves(root, tree, node);
  if (moves.count == 0) return {};  // all of it lies where it should
  moves.kv_heads = kv_heads_, moves.head_dim = head_dim_, moves.capacity = capacity_, moves.type = type_;
  const uint64_t begin = head_bytes(moves.first_place / kKvInterleave * kKvInterleave), end = head_bytes(root + node + 1);
  for (uint32_t layer = 0; layer < layers_.size(); ++layer) {
    if (layers_[layer].is_on_device) continue;
    const uint32_t spilled = layers_[layer].spilled;
    if (layers_[layer].is_spilled()) OTR_TRY(part_.spill()->fetch(part_, spilled, runs(), begin, end));
    moves.cache = keys(layer), moves.layers = 1;
    move_kv(moves, 0, kv_heads_);
    if (layers_[layer].is_spilled()) OTR_TRY(part_.spill()->store(part_, spilled, runs(), begin, end));
  }
  moves.cache = device_lease_.data();
  moves.layers = static_cast<size_t>(std::count_if(layers_.begin(), layers_.end(), [](const Layer& layer) { return layer.is_on_device; }));
  return moves.layers == 0 ? Status() : residency.device()->run(moves);
}

Status KvCache::copy_prefix_to(uint32_t positions, std::span<std::byte> dst, TensorResidency& residency) const {
  const uint64_t bytes = head_bytes(positions), stride = head_bytes(capacity_);
  if (bytes == 0) return {};
  std::byte* to = dst.data();
  for (uint32_t layer = 0; layer < layers_.size(); ++layer) {
    if (layers_[layer].is_spilled()) OTR_TRY(fetch(layer, positions, 0));
    for (uint32_t run = 0; run < 2 * kv_heads_; ++run, to += bytes) {
      const std::byte* const from = keys(layer) + run * stride;
      if (layers_[layer].is_on_device) {
        OTR_TRY(residency.device()->download_through(residency.transfer(), to, from, bytes));
      } else {
        std::memcpy(to, from, bytes);
      }
    }
  }
  return {};
}

Status KvCache::copy_prefix_from(uint32_t positions, std::span<const std::byte> src, TensorResidency& residency) {
  const uint64_t bytes = head_bytes(positions), stride = head_bytes(capacity_);
  if (bytes == 0) return {};
  const std::byte* from = src.data();
  for (uint32_t layer = 0; layer < layers_.size(); ++layer) {
    for (uint32_t run = 0; run < 2 * kv_heads_; ++run, from += bytes) {
      std::byte* const to = keys(layer) + run * stride;
      if (layers_[layer].is_on_device) {
        OTR_TRY(residency.device()->upload_through(residency.transfer(), to, from, bytes));
      } else {
        std::memcpy(to, from, bytes);
      }
    }
    if (layers_[layer].is_spilled()) OTR_TRY(store(layer, 0, positions));
  }
  return {};
}

}  // namespace outrigger
