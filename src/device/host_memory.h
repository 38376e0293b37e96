// The host memory that this process may still take: what the system has, and what its control groups allow.
#ifndef OUTRIGGER_SRC_DEVICE_HOST_MEMORY_H_
#define OUTRIGGER_SRC_DEVICE_HOST_MEMORY_H_

#include <cstdint>
#include <optional>
#include <string>

namespace outrigger {

/// MemAvailable of `meminfo` (normally /proc/meminfo) in bytes; nothing if it does not say.
std::optional<uint64_t> available_memory(const std::string& meminfo);

/// What the tightest control group of this process still allows: its limit less what is used and could not be dropped (page cache that is
/// not in active use does not count). Nothing if no group has a limit. Understands cgroup v2 (memory.max) and v1, mounted as
/// distributions do; `membership` is normally /proc/self/cgroup, `mount` /sys/fs/cgroup.
std::optional<uint64_t> cgroup_allowance(const std::string& membership, const std::string& mount);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DEVICE_HOST_MEMORY_H_
