// Host memory straight from the system, so that what is freed is the system's again at once.
#include "src/device/cpu_backend.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include "src/base/bytes.h"

namespace outrigger {
namespace {

// Reading weights through 4 KiB pages instead of huge ones costs 20 % of the memory's rate.
constexpr uint64_t kHugePage = 2_MiB;
constexpr uint64_t kPage = 4096;

class CpuBackend final : public Backend {
 public:
  std::string name() const override { return "cpu"; }

  Result<DeviceMemory> allocate(uint64_t bytes) override {
    if (bytes == 0) return DeviceMemory();
    void* const data = bytes < kHugePage ? map(bytes) : map_aligned(bytes);
    if (data == nullptr) return Status(StatusCode::kOutOfMemory, fmt::format("the system refused {} of memory", format_bytes(bytes)));
    if (bytes >= kHugePage) (void)::madvise(data, bytes, MADV_HUGEPAGE);  // a wish: without it everything works, more slowly
    return DeviceMemory(this, static_cast<std::byte*>(data), bytes);
  }

  bool supports(PackedKind) const override { return true; }

 private:
  static void* map(uint64_t bytes) {
    void* const data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return data == MAP_FAILED ? nullptr : data;
  }

  // At a huge page's boundary, so that all of it can be huge pages: what is mapped before and behind it for that is given back untouched.
  static void* map_aligned(uint64_t bytes) {
    if (bytes > UINT64_MAX - 2 * kHugePage) return nullptr;
    const uint64_t wanted = (bytes + kPage - 1) / kPage * kPage;
    auto* const data = static_cast<std::byte*>(map(wanted + kHugePage));
    if (data == nullptr) return nullptr;
    const uint64_t before = -reinterpret_cast<uintptr_t>(data) % kHugePage;
    if (before > 0) ::munmap(data, before);
    if (before < kHugePage) ::munmap(data + before + wanted, kHugePage - before);
    return data + before;
  }

  void release(std::byte* data, uint64_t bytes) noexcept override { ::munmap(data, bytes); }
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend() { return std::make_unique<CpuBackend>(); }

}  // namespace outrigger
