// The CPU time that control groups allow this process.
#ifndef OUTRIGGER_SRC_BASE_CPU_QUOTA_H_
#define OUTRIGGER_SRC_BASE_CPU_QUOTA_H_

#include <optional>
#include <string>

namespace outrigger {

/// The smallest CPU quota, in processors, of the control groups this process is in and of their parents; nothing if none is set.
/// Understands cgroup v2 (cpu.max) and v1 (cpu.cfs_quota_us), mounted as distributions do. The paths are arguments for the tests:
/// `membership` is normally /proc/self/cgroup, `mount` /sys/fs/cgroup.
std::optional<double> cpu_quota(const std::string& membership, const std::string& mount);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_BASE_CPU_QUOTA_H_
