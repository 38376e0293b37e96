// Host memory straight from the system, so that what is freed is the system's again at once.
#include "src/device/host_pages.h"

#include <sys/mman.h>

#include "src/base/bytes.h"

namespace outrigger {
namespace {

// Reading weights through 4 KiB pages instead of huge ones costs 20 % of the memory's rate.
constexpr uint64_t kHugePage = 2_MiB;

std::byte* map(uint64_t bytes) {
  void* const data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return data == MAP_FAILED ? nullptr : static_cast<std::byte*>(data);
}

// At a huge page's boundary, so that all of it can be huge pages: what is mapped before and behind it for that is given back untouched.
std::byte* map_aligned(uint64_t bytes) {
  if (bytes > UINT64_MAX - 2 * kHugePage) return nullptr;
  const uint64_t wanted = (bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
  std::byte* const data = map(wanted + kHugePage);
  if (data == nullptr) return nullptr;
  const uint64_t before = -reinterpret_cast<uintptr_t>(data) % kHugePage;
  if (before > 0) ::munmap(data, before);
  if (before < kHugePage) ::munmap(data + before + wanted, kHugePage - before);
  return data + before;
}

}  // namespace

std::byte* map_host_pages(uint64_t bytes) {
  std::byte* const data = bytes < kHugePage ? map(bytes) : map_aligned(bytes);
  if (data != nullptr && bytes >= kHugePage) (void)::madvise(data, bytes, MADV_HUGEPAGE);  // a wish: without it all works, more slowly
  return data;
}

void unmap_host_pages(std::byte* data, uint64_t bytes) noexcept { ::munmap(data, bytes); }

}  // namespace outrigger
