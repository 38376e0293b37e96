// How many threads are worth starting: affinity, hyperthreads and control group quotas.
#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <set>
#include <string>
#include <thread>
#include <utility>

#include "src/base/cpu_quota.h"
#include "src/base/formatted.h"
#include "src/base/thread_team.h"

#if defined(__linux__)
#include <sched.h>
#endif

namespace outrigger {
namespace {

void keep_smaller(std::optional<double>& least, double quota) { least = least ? std::min(*least, quota) : quota; }

// "max 100000" or "150000 100000": microseconds of CPU time and the period they are for.
void read_v2(const std::string& folder, std::optional<double>& least) {
  std::ifstream file(folder + "/cpu.max");
  std::string quota;
  double period_us = 0;
  if (file >> quota >> period_us && quota != "max" && period_us > 0) keep_smaller(least, std::strtod(quota.c_str(), nullptr) / period_us);
}

void read_v1(const std::string& folder, std::optional<double>& least) {
  std::ifstream quota_file(folder + "/cpu.cfs_quota_us"), period_file(folder + "/cpu.cfs_period_us");
  double quota_us = 0, period_us = 0;
  if (quota_file >> quota_us && period_file >> period_us && quota_us > 0 && period_us > 0) keep_smaller(least, quota_us / period_us);
}

// Every group from `path` up to the root limits. In a container the path may be the host's, which is not mounted: then only the root is.
template <typename Read>
void walk_up(const std::string& mount, std::string path, Read read) {
  while (!path.empty() && path != "/") {
    read(mount + path);
    path.erase(path.rfind('/'));
  }
  read(mount);
}

#if defined(__linux__)
// Logical processors of one core share (package, core); where the system does not say, each counts as a core.
std::pair<int, int> core_of(int cpu) {
  const std::string folder = "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/";
  int package = 0, core = 0;
  std::ifstream package_file(folder + "physical_package_id"), core_file(folder + "core_id");
  if (package_file >> package && core_file >> core) return {package, core};
  return {-1, cpu};
}

size_t cores_in_affinity() {
  // The kernel refuses a mask smaller than its own: 8192 processors are more than any has been built for.
  constexpr int kMaxCpus = 8192;
  std::array<cpu_set_t, kMaxCpus / CPU_SETSIZE> mask{};  // 1 KiB
  std::set<std::pair<int, int>> cores;
  if (sched_getaffinity(0, sizeof mask, mask.data()) == 0) {
    for (int cpu = 0; cpu < kMaxCpus; ++cpu) {
      if (CPU_ISSET_S(cpu, sizeof mask, mask.data())) cores.insert(core_of(cpu));
    }
  }
  return cores.size();
}
#else
size_t cores_in_affinity() { return std::thread::hardware_concurrency(); }
#endif

}  // namespace

std::optional<double> cpu_quota(const std::string& membership, const std::string& mount) {
  std::optional<double> least;
  std::ifstream file(membership);
  for (std::string line; std::getline(file, line);) {  // "0::/user.slice" (v2) or "4:cpu,cpuacct:/docker/1f" (v1)
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = formatted(",{},", line.substr(first + 1, second - first - 1)), path = line.substr(second + 1);
    if (controllers == ",,") walk_up(mount, path, [&](const std::string& folder) { read_v2(folder, least); });
    if (controllers.find(",cpu,") == std::string::npos) continue;
    for (const char* controller : {"/cpu", "/cpu,cpuacct"}) {
      walk_up(mount + controller, path, [&](const std::string& folder) { read_v1(folder, least); });
    }
  }
  return least;
}

size_t usable_cores() {
  size_t cores = std::max<size_t>(1, cores_in_affinity());
  // Rounded down: a thread beyond the quota makes the whole team wait for the next period, 100 ms as a rule.
  if (const auto quota = cpu_quota("/proc/self/cgroup", "/sys/fs/cgroup"); quota && *quota < static_cast<double>(cores)) {
    cores = std::max<size_t>(1, static_cast<size_t>(*quota));
  }
  return cores;
}

}  // namespace outrigger
