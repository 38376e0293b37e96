// TensorResidency: from the file's rows to packed row blocks, for a slot by one thread and for all resident matrices by a team.
#include <algorithm>
#include <mutex>
#include <new>

#include "src/base/bytes.h"
#include "src/base/macros.h"
#include "src/memory/residency.h"

namespace outrigger {
namespace {

// Large enough that a disk reads it at full rate and that a chunk's fixed costs vanish, small enough that what was read is still in a cache
// when it is packed, and that a cancelled load ends within milliseconds.
constexpr uint64_t kChunkBytes = 2_MiB;

uint64_t whole_pages(uint64_t bytes) { return (bytes + kDirectAlignment - 1) / kDirectAlignment * kDirectAlignment; }

}  // namespace

// What the threads of a load share.
struct TensorResidency::Loading {
  struct Chunk {
    uint32_t matrix;
    uint64_t first_block, blocks;
  };

  const Progress& progress;
  const CancelToken& cancel;
  std::vector<Chunk> chunks, device_chunks;
  uint64_t total_bytes = 0;      // of the file
  std::span<std::byte> staging;  // one part for each reader
  uint64_t staging_of_reader = 0;
  size_t readers = 1;
  std::atomic<size_t> next{0};
  std::atomic<uint64_t> done_bytes{0};
  std::atomic<bool> stopped{false};
  std::mutex mutex;
  Status failure;  // guarded by mutex while the team runs

  static void cut(uint32_t matrix, const WeightSource& weight, std::vector<Chunk>& chunks) {
    const uint64_t blocks = weight.blocks_per_expert(), at_once = std::max<uint64_t>(1, kChunkBytes / weight.block_file_bytes());
    for (uint64_t expert = 0; expert < weight.experts; ++expert) {
      for (uint64_t first = 0; first < blocks; first += at_once)
        chunks.push_back({matrix, expert * blocks + first, std::min(at_once, blocks - first)});
    }
  }

  void fail(Status status) {
    const std::lock_guard lock(mutex);
    if (!stopped.exchange(true)) failure = std::move(status);
  }

  // On the thread that called load().
  void report(double share) {
    try {
      if (progress && !progress(share)) fail(Status(StatusCode::kCancelled, "loading was cancelled"));
    } catch (...) {
      fail(Status(StatusCode::kInternal, "the progress callback threw"));
    }
  }
};

uint64_t TensorResidency::blocks_in_staging(uint32_t matrix, uint64_t staging_bytes, uint64_t most) const {
  const uint64_t one = weights_[matrix].block_file_bytes();
  if (source_->direct_staging_bytes(most * one) <= staging_bytes) return most;
  uint64_t blocks = std::min(most, staging_bytes / one);
  while (blocks > 0 && source_->direct_staging_bytes(blocks * one) > staging_bytes) --blocks;
  return blocks;
}

Status TensorResidency::load_blocks(uint32_t matrix, uint64_t first_block, uint64_t blocks, std::span<std::byte> staging, bool& try_cache,
                                    std::byte* dst) const {
  const WeightSource& weight = weights_[matrix];
  while (blocks > 0) {
    const uint64_t some = blocks_in_staging(matrix, staging.size(), blocks);
    const uint64_t bytes = weight.file_bytes(first_block, some), offset = weight.offset_of(first_block);
    const std::byte* rows = staging.data();
    try_cache = try_cache && bytes <= staging.size() && source_->read_if_cached(offset, staging.first(bytes));
    if (!try_cache) {
      OTR_ASSIGN(rows, source_->read_direct(offset, bytes, staging));
    }
    weight.place(rows, bytes, dst);
    dst += some * block_bytes(matrix);
    first_block += some;
    blocks -= some;
  }
  return {};
}

Status TensorResidency::load(ThreadTeam& team, const Progress& progress, const CancelToken& cancel) {
  try {
    invalidate();
    Loading loading{progress, cancel};
    uint64_t largest_block = 0;
    for (uint32_t matrix = 0; matrix < weights_.size(); ++matrix) {
      const bool is_on_device = device_ && device_->is_resident(matrix);
      if (!is_resident(matrix) && !is_on_device) continue;
      const WeightSource& weight = weights_[matrix];
      loading.cut(matrix, weight, is_on_device ? loading.device_chunks : loading.chunks);
      largest_block = std::max(largest_block, weight.block_file_bytes());
      loading.total_bytes += weight.expert_file_bytes() * weight.experts;
    }
    MemoryLease own;
    if (loading.total_bytes > 0) {
      OTR_ASSIGN(own, share_staging(loading, team.threads(), largest_block));
    }
    return load_all(loading, team);
  } catch (const std::bad_alloc&) {
    return Status(StatusCode::kOutOfMemory, "out of memory");  // short enough to need none
  }
}

// The plan's largest parts are still free: the ring is idle, and activations and KV caches have not been reserved.
Result<MemoryLease> TensorResidency::share_staging(Loading& loading, size_t threads, uint64_t largest_block) {
  const uint64_t least = whole_pages(source_->direct_staging_bytes(largest_block));
  const uint64_t wanted = threads * whole_pages(source_->direct_staging_bytes(std::max(kChunkBytes, largest_block)));
  const TierUse use = ledger_.report();
  const uint64_t unreserved = use.planned_bytes - std::min(use.planned_bytes, use.current_bytes);
  const uint64_t own_bytes = std::min(wanted, std::max(unreserved / kDirectAlignment * kDirectAlignment, least));
  MemoryLease own;
  loading.staging = {ring_memory_.data(), ring_memory_.bytes()};
  if (loading.staging.size() < own_bytes) {
    OTR_ASSIGN(own, reserve(MemoryUse::kOther, own_bytes));
    loading.staging = {own.data(), own.bytes()};
  }
  // A thread that would get less than a row block stands aside.
  loading.readers = least == 0 ? threads : std::clamp<size_t>(loading.staging.size() / least, 1, threads);
  loading.staging_of_reader = loading.staging.size() / loading.readers / kDirectAlignment * kDirectAlignment;
  return own;
}

Status TensorResidency::load_all(Loading& loading, ThreadTeam& team) {
  OTR_TRY(source_->check_unchanged());
  team.run([&](const TeamMember& member) {
    if (member.index() < loading.readers) load_chunks(loading, member.index());
  });
  if (!loading.stopped) OTR_TRY(load_device(loading));
  if (!loading.stopped) loading.report(1);
  if (loading.stopped) return std::move(loading.failure);
  return source_->check_unchanged();
}

void TensorResidency::load_chunks(Loading& loading, size_t reader) noexcept {
  try {
    const std::span<std::byte> staging = loading.staging.subspan(reader * loading.staging_of_reader, loading.staging_of_reader);
    bool try_cache = true;
    while (!loading.stopped) {
      if (loading.cancel.is_cancelled()) return loading.fail(Status(StatusCode::kCancelled, "loading was cancelled"));
      const size_t index = loading.next.fetch_add(1);
      if (index >= loading.chunks.size()) return;
      const auto& [matrix, first_block, blocks] = loading.chunks[index];
      Status status = load_blocks(matrix, first_block, blocks, staging, try_cache, resident_[matrix] + first_block * block_bytes(matrix));
      if (!status.is_ok()) return loading.fail(std::move(status));
      const uint64_t bytes = weights_[matrix].file_bytes(first_block, blocks), done = loading.done_bytes.fetch_add(bytes) + bytes;
      if (reader == 0 && done < loading.total_bytes) loading.report(static_cast<double>(done) / static_cast<double>(loading.total_bytes));
    }
  } catch (const std::bad_alloc&) {
    loading.fail(Status(StatusCode::kOutOfMemory, "out of memory"));
  }
}

// Packed into the transfer buffer, as much as it holds at a time, and copied from there.
Status TensorResidency::load_device(Loading& loading) {
  const std::span<std::byte> staging = loading.staging.first(loading.device_chunks.empty() ? 0 : loading.staging_of_reader);
  bool try_cache = true;
  for (const auto& [matrix, first_block, blocks] : loading.device_chunks) {
    const uint64_t block = block_bytes(matrix), at_once = std::max<uint64_t>(1, transfer().size() / block);
    for (uint64_t done = 0, some; done < blocks; done += some) {
      some = std::min(blocks - done, at_once);
      if (loading.cancel.is_cancelled()) return Status(StatusCode::kCancelled, "loading was cancelled");
      OTR_TRY(load_blocks(matrix, first_block + done, some, staging, try_cache, transfer().data()));
      OTR_TRY(device_->upload(device_->matrix(matrix) + (first_block + done) * block, transfer().data(), some * block));
    }
    const uint64_t bytes = weights_[matrix].file_bytes(first_block, blocks), all = loading.done_bytes.fetch_add(bytes) + bytes;
    if (all < loading.total_bytes) loading.report(static_cast<double>(all) / static_cast<double>(loading.total_bytes));
    if (loading.stopped) return {};
  }
  return {};
}

}  // namespace outrigger
