// usable_cores: affinity of this process, and control group quotas read from trees made for the purpose.
#include <filesystem>
#include <fstream>
#include <thread>

#include "src/base/cpu_quota.h"
#include "src/base/thread_team.h"
#include "tests/support/catch.h"

#if defined(__linux__)
#include <sched.h>
#include <unistd.h>
#endif

namespace outrigger {
namespace {

// A folder of files that goes away with it.
class Tree {
 public:
  Tree() : root_(std::filesystem::temp_directory_path() / ("usable_cores_test." + std::to_string(::getpid()))) {
    std::filesystem::create_directories(root_);
  }
  ~Tree() { std::filesystem::remove_all(root_); }
  std::string operator/(const std::string& path) const { return root_ / path; }
  void write(const std::string& path, const std::string& text) const {
    std::filesystem::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }

 private:
  std::filesystem::path root_;
};

TEST_CASE("CpuQuota: the smallest quota on the way up counts in cgroup v2") {
  const Tree tree;
  tree.write("self", "0::/user.slice/app\n");
  tree.write("mount/user.slice/cpu.max", "150000 100000\n");
  tree.write("mount/user.slice/app/cpu.max", "max 100000\n");
  REQUIRE(cpu_quota(tree / "self", tree / "mount") == 1.5);
  tree.write("mount/user.slice/app/cpu.max", "50000 100000\n");
  REQUIRE(cpu_quota(tree / "self", tree / "mount") == 0.5);
}

TEST_CASE("CpuQuota: in a container whose path is the host's the root of the mount counts") {
  const Tree tree;
  tree.write("self", "0::/docker/1f2e\n");
  tree.write("mount/cpu.max", "300000 100000\n");
  REQUIRE(cpu_quota(tree / "self", tree / "mount") == 3.0);
}

TEST_CASE("CpuQuota: cgroup v1 has quota and period in files of their own, and -1 means none") {
  const Tree tree;
  tree.write("self", "12:memory:/a\n4:cpu,cpuacct:/a/b\n1:name=systemd:/a\n");
  tree.write("mount/cpu,cpuacct/a/b/cpu.cfs_quota_us", "-1\n");
  tree.write("mount/cpu,cpuacct/a/b/cpu.cfs_period_us", "100000\n");
  REQUIRE_FALSE(cpu_quota(tree / "self", tree / "mount").has_value());
  tree.write("mount/cpu,cpuacct/a/cpu.cfs_quota_us", "250000\n");
  tree.write("mount/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n");
  REQUIRE(cpu_quota(tree / "self", tree / "mount") == 2.5);
}

TEST_CASE("CpuQuota: missing or broken files are no quota") {
  const Tree tree;
  REQUIRE_FALSE(cpu_quota(tree / "absent", tree / "mount").has_value());
  tree.write("self", "nonsense\n0::/a\n");
  tree.write("mount/a/cpu.max", "100000 0\n");
  tree.write("mount/cpu.max", "garbage\n");
  REQUIRE_FALSE(cpu_quota(tree / "self", tree / "mount").has_value());
}

TEST_CASE("UsableCores: at least one and no more than there are processors") {
  REQUIRE(usable_cores() >= 1);
  REQUIRE(usable_cores() <= std::max(1u, std::thread::hardware_concurrency()));
}

#if defined(__linux__)
TEST_CASE("UsableCores: a process bound to one processor has one") {
  cpu_set_t before, one;
  REQUIRE(sched_getaffinity(0, sizeof before, &before) == 0);
  CPU_ZERO(&one);
  for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; ++cpu) {
    if (CPU_ISSET(cpu, &before)) CPU_SET(cpu, &one);
  }
  REQUIRE(sched_setaffinity(0, sizeof one, &one) == 0);
  const size_t cores = usable_cores();
  REQUIRE(sched_setaffinity(0, sizeof before, &before) == 0);
  REQUIRE(cores == 1);
}
#endif

}  // namespace
}  // namespace outrigger
