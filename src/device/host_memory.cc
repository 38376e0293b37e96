// The host memory that this process may still take.
#include "src/device/host_memory.h"

#include <outrigger/plan.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "src/base/formatted.h"

namespace outrigger {
namespace {

struct GroupFiles {
  const char *limit, *usage, *droppable;  // files, and the line of memory.stat
};
constexpr GroupFiles kV2 = {"/memory.max", "/memory.current", "inactive_file"};
constexpr GroupFiles kV1 = {"/memory.limit_in_bytes", "/memory.usage_in_bytes", "total_inactive_file"};

std::optional<uint64_t> read_number(const std::string& path) {
  std::ifstream file(path);
  uint64_t value = 0;
  return file >> value ? std::optional(value) : std::nullopt;  // "max" is no number
}

uint64_t read_stat(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  std::string name;
  for (uint64_t value = 0; file >> name >> value;) {
    if (name == key) return value;
  }
  return 0;
}

void keep_tightest(const std::string& folder, const GroupFiles& files, std::optional<uint64_t>* least) {
  const std::optional<uint64_t> limit = read_number(folder + files.limit), usage = read_number(folder + files.usage);
  if (!limit || !usage) return;
  const uint64_t droppable = read_stat(folder + "/memory.stat", files.droppable);
  const uint64_t used = *usage - std::min(*usage, droppable), left = *limit - std::min(*limit, used);
  *least = std::min(least->value_or(left), left);
}

// Every group from `path` up to the root limits. In a container the path may be the host's, which is not mounted: then only the root is.
void walk_up(const std::string& mount, std::string path, const GroupFiles& files, std::optional<uint64_t>* least) {
  while (!path.empty() && path != "/") {
    keep_tightest(mount + path, files, least);
    const size_t slash = path.rfind('/');
    path.resize(slash == std::string::npos ? 0 : slash);
  }
  keep_tightest(mount, files, least);
}

}  // namespace

std::optional<uint64_t> available_memory(const std::string& meminfo) {
  std::ifstream file(meminfo);
  for (std::string line; std::getline(file, line);) {
    unsigned long long kib = 0;
    if (std::sscanf(line.c_str(), "MemAvailable: %llu kB", &kib) == 1) return uint64_t{kib} << 10;
  }
  return std::nullopt;
}

std::optional<uint64_t> cgroup_allowance(const std::string& membership, const std::string& mount) {
  std::optional<uint64_t> least;
  std::ifstream file(membership);
  for (std::string line; std::getline(file, line);) {  // "0::/user.slice" (v2) or "4:memory:/docker/1f" (v1)
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = formatted(",{},", line.substr(first + 1, second - first - 1)), path = line.substr(second + 1);
    if (controllers == ",,") walk_up(mount, path, kV2, &least);
    if (controllers.find(",memory,") != std::string::npos) walk_up(mount + "/memory", path, kV1, &least);
  }
  return least;
}

uint64_t default_host_budget() {
  // Where there is no /proc: half of all memory, as what others use is not known.
  const uint64_t all =
      static_cast<uint64_t>(std::max(0L, ::sysconf(_SC_PHYS_PAGES))) * static_cast<uint64_t>(std::max(0L, ::sysconf(_SC_PAGESIZE)));
  uint64_t available = available_memory("/proc/meminfo").value_or(all / 2);
  available = std::min(available, cgroup_allowance("/proc/self/cgroup", "/sys/fs/cgroup").value_or(available));
  return std::max<uint64_t>(available / 10 * 9, 1);  // 0 would mean no limit
}

}  // namespace outrigger
