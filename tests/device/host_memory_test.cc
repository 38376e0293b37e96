// The memory this process may still take: control groups of both versions, as files in a folder of the test's own.
#include "src/device/host_memory.h"

#include <outrigger/plan.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/support/catch.h"

namespace outrigger {
namespace {

namespace fs = std::filesystem;

class Folder {
 public:
  Folder() : path_(fs::temp_directory_path() / ("outrigger_host_memory_test." + std::to_string(::getpid()))) { fs::remove_all(path_); }
  ~Folder() { fs::remove_all(path_); }

  std::string path(const std::string& name) const { return path_ / name; }
  void write(const std::string& name, const std::string& text) const {
    fs::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name) << text;
  }
  std::optional<uint64_t> allowance() const { return cgroup_allowance(path("membership"), path("mount")); }

 private:
  fs::path path_;
};

TEST_CASE("host memory: reads what is available, not what is free") {
  Folder folder;
  folder.write("meminfo", "MemTotal:       24684092 kB\nMemFree:        17669760 kB\nMemAvailable:   19404988 kB\n");
  REQUIRE(available_memory(folder.path("meminfo")) == uint64_t{19404988} * 1024);
  folder.write("meminfo", "MemTotal: 1 kB\n");
  REQUIRE_FALSE(available_memory(folder.path("meminfo")));
  REQUIRE_FALSE(available_memory(folder.path("nothing")));
}

TEST_CASE("host memory: a v2 group allows its limit less what is used and cannot be dropped") {
  Folder folder;
  folder.write("membership", "0::/user.slice/job\n");
  folder.write("mount/user.slice/job/memory.max", "1000000\n");
  folder.write("mount/user.slice/job/memory.current", "600000\n");
  folder.write("mount/user.slice/job/memory.stat", "anon 100\ninactive_file 50000\nactive_file 70000\n");
  REQUIRE(folder.allowance() == 450000);
  folder.write("mount/user.slice/job/memory.max", "max\n");
  REQUIRE_FALSE(folder.allowance());
}

TEST_CASE("host memory: the tightest group on the way up decides") {
  Folder folder;
  folder.write("membership", "0::/a/b\n");
  folder.write("mount/a/memory.max", "500\n");
  folder.write("mount/a/memory.current", "100\n");
  folder.write("mount/a/b/memory.max", "1000\n");
  folder.write("mount/a/b/memory.current", "50\n");
  REQUIRE(folder.allowance() == 400);
  folder.write("mount/a/memory.current", "700\n");
  REQUIRE(folder.allowance() == 0);
}

TEST_CASE("host memory: a v1 group's limit counts, and its absence does not") {
  Folder folder;
  folder.write("membership", "5:devices:/\n4:memory:/job\n1:cpu:/\n");
  folder.write("mount/memory/job/memory.limit_in_bytes", "2000000\n");
  folder.write("mount/memory/job/memory.usage_in_bytes", "500000\n");
  folder.write("mount/memory/job/memory.stat", "inactive_file 7\ntotal_inactive_file 100000\n");
  REQUIRE(folder.allowance() == 1600000);
  folder.write("mount/memory/job/memory.limit_in_bytes", "9223372036854771712\n");  // how v1 says "none"
  REQUIRE(folder.allowance() > uint64_t{1} << 60);
}

TEST_CASE("host memory: in a container, where the group's path is the host's, the mounted root counts") {
  Folder folder;
  folder.write("membership", "0::/docker/0123\n");
  folder.write("mount/memory.max", "3000\n");
  folder.write("mount/memory.current", "1000\n");
  REQUIRE(folder.allowance() == 2000);
}

TEST_CASE("host memory: no groups, or files that say nothing of use, are no limit") {
  Folder folder;
  REQUIRE_FALSE(folder.allowance());
  folder.write("membership", "nonsense\n:\n0::\n0::relative\n0::/a\n4:memory:/b\n");
  folder.write("mount/a/memory.max", "");
  folder.write("mount/memory/b/memory.limit_in_bytes", "a lot");
  REQUIRE_FALSE(folder.allowance());
}

TEST_CASE("host memory: the default budget is a resolved one, nine tenths of what there is at most") {
  const uint64_t budget = default_host_budget();
  REQUIRE(budget != Budgets::kDefault);
  REQUIRE(budget != Budgets::kUnlimited);
  const std::optional<uint64_t> available = available_memory("/proc/meminfo");
  REQUIRE(available);
  REQUIRE(budget < *available * 0.95);
}

}  // namespace
}  // namespace outrigger
