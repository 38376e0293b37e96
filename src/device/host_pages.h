// Host memory straight from the system.
#ifndef OUTRIGGER_SRC_DEVICE_HOST_PAGES_H_
#define OUTRIGGER_SRC_DEVICE_HOST_PAGES_H_

#include <cstddef>
#include <cstdint>

namespace outrigger {

inline constexpr uint64_t kPageBytes = 4096;

/// Zeroed memory at a multiple of 4096, of 2 MiB if there is as much; then it asks for huge pages. Null if the system refuses.
std::byte* map_host_pages(uint64_t bytes);
/// What map_host_pages gave; the system has it again at once.
void unmap_host_pages(std::byte* data, uint64_t bytes) noexcept;

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DEVICE_HOST_PAGES_H_
