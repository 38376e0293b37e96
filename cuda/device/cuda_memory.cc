// A GPU's memory, and host memory that it copies from and to.
#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "cuda/device/cuda_backend.h"
#include "src/base/bytes.h"
#include "src/base/macros.h"
#include "src/device/host_pages.h"

namespace outrigger::cuda {
namespace {

// Some systems refuse to pin much at once, though they pin it piece by piece.
constexpr uint64_t kPinnedPiece = 1_GiB;

bool is_aligned(const void* data) { return reinterpret_cast<uintptr_t>(data) % kPageBytes == 0; }

}  // namespace

uint64_t CudaBackend::pinned_piece_bytes(const std::byte* host) { return kPinnedPiece - reinterpret_cast<uintptr_t>(host) % kPinnedPiece; }

CudaBackend::~CudaBackend() {
  finish_all();
  (void)use_device();
  runs_.close();
  device_positions_ = DeviceMemory();
  host_positions_ = PinnedMemory();
  for (const auto& [address, bytes] : memory_.ranges()) (void)api_.release(base_of(reinterpret_cast<std::byte*>(address)));
  for (const auto& [address, bytes] : pinned_.ranges()) {
    auto* const data = reinterpret_cast<std::byte*>(address);
    unpin(data, bytes);
    unmap_host_pages(data, bytes);
  }
  for (CudaStream& stream : streams_) stream.close();
}

// The runtime aligns to 256 bytes, and large memory to 2 MiB: only where that is not enough a page more is taken.
CudaCode CudaBackend::take(uint64_t bytes, Block* block) const {
  const std::optional<uint64_t> whole = CheckedSize(bytes).round_up(kPageBytes).value();
  if (!whole) return kCudaOutOfMemory;
  void* base = nullptr;
  CudaCode code = api_.allocate(&base, *whole);
  if (code == kCudaOk && !is_aligned(base)) {
    (void)api_.release(base);
    code = api_.allocate(&base, *whole + kPageBytes);
  }
  if (code != kCudaOk) return code;
  block->before = -reinterpret_cast<uintptr_t>(base) % kPageBytes;
  block->data = static_cast<std::byte*>(base) + block->before;
  return kCudaOk;
}

Status CudaBackend::zero(std::byte* data, uint64_t bytes) {
  {
    const Lock lock(mutex_);
    CudaStream& zeroing = streams_[kZeroing];
    zeroing.note_work();
    OTR_TRY(ended(lock, api_.clear(zeroing.handle(), data, bytes), "zeroing"));
  }
  return finish(kZeroing);
}

bool CudaBackend::keep(const Lock&, const Block& block, uint64_t bytes) noexcept {
  if (!memory_.insert(block.data, bytes)) return false;
  if (block.before == 0 || before_.insert(block.data, block.before)) return true;
  memory_.erase(block.data);
  return false;
}

Result<DeviceMemory> CudaBackend::allocate(uint64_t bytes) {
  {
    const Lock lock(mutex_);
    OTR_TRY(enter(lock));
  }
  if (bytes == 0) return DeviceMemory();
  Block block{};
  if (const CudaCode code = take(bytes, &block); code != kCudaOk) {
    const Lock lock(mutex_);
    return ended(lock, code, "allocating", bytes);
  }
  Status status = zero(block.data, bytes);
  const Lock lock(mutex_);
  if (status.is_ok() && keep(lock, block, bytes)) return DeviceMemory(this, block.data, bytes);
  (void)api_.release(block.data - block.before);
  return status.is_ok() ? Status(StatusCode::kOutOfMemory, "the system refused memory for a list of the device's") : status;
}

void* CudaBackend::base_of(std::byte* data) const {
  const auto before = before_.ranges().find(reinterpret_cast<uintptr_t>(data));
  return before == before_.ranges().end() ? data : data - before->second;
}

CudaCode CudaBackend::pin(std::byte* data, uint64_t bytes) const {
  for (uint64_t done = 0, some; done < bytes; done += some) {
    some = std::min(bytes - done, pinned_piece_bytes(data + done));
    if (const CudaCode code = api_.pin(data + done, some); code != kCudaOk) {
      unpin(data, done);
      return code;
    }
  }
  return kCudaOk;
}

void CudaBackend::unpin(std::byte* data, uint64_t bytes) const noexcept {
  for (uint64_t done = 0; done < bytes; done += pinned_piece_bytes(data + done)) (void)api_.unpin(data + done);
}

Result<PinnedMemory> CudaBackend::allocate_pinned(uint64_t bytes) {
  {
    const Lock lock(mutex_);
    OTR_TRY(enter(lock));
  }
  if (bytes == 0) return PinnedMemory();
  std::byte* const data = map_host_pages(bytes);
  if (data == nullptr)
    return Status(StatusCode::kOutOfMemory, fmt::format("the system refused {} of host memory for copies", format_bytes(bytes)));
  const CudaCode code = pin(data, bytes);  // takes 0.2 s and more for 1 GiB: without the lock
  const Lock lock(mutex_);
  if (code == kCudaOk && pinned_.insert(data, bytes)) return PinnedMemory(this, data, bytes);
  if (code == kCudaOk) unpin(data, bytes);
  unmap_host_pages(data, bytes);
  if (code != kCudaOk && code != kCudaOutOfMemory) return ended(lock, code, "pinning");
  const uint64_t pinned_bytes = std::accumulate(pinned_.ranges().begin(), pinned_.ranges().end(), uint64_t{0},
                                                [](uint64_t sum, const auto& range) { return sum + range.second; });
  return Status(StatusCode::kOutOfMemory, fmt::format("the system refused to pin {} of host memory for copies, beside {} that are pinned",
                                                      format_bytes(bytes), format_bytes(pinned_bytes)))
      .with_bytes(bytes, 0);
}

// New work finds the memory gone, what was submitted before is waited for. The runtime's codes tell of work that failed: what is given back
// is so all the same. Without the lock: releasing waits for work that was submitted since.
void CudaBackend::take_back(MemoryPlace place, std::byte* data, uint64_t bytes) noexcept {
  void* base = nullptr;
  {
    const Lock lock(mutex_);
    (place == MemoryPlace::kDevice ? memory_ : pinned_).erase(data);
    base = base_of(data);
    before_.erase(data);
  }
  finish_all();
  (void)use_device();
  if (place == MemoryPlace::kDevice) {
    (void)api_.release(base);
  } else {
    unpin(data, bytes);
    unmap_host_pages(data, bytes);
  }
}

}  // namespace outrigger::cuda
