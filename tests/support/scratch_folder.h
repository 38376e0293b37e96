// ScratchFolder: a folder of a test case's own, removed with everything in it.
#ifndef OUTRIGGER_TESTS_SUPPORT_SCRATCH_FOLDER_H_
#define OUTRIGGER_TESTS_SUPPORT_SCRATCH_FOLDER_H_

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/catch.h"

namespace outrigger {

struct ScratchFolder {
  std::filesystem::path path;

  ScratchFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "outrigger-XXXXXX").string();
    REQUIRE(::mkdtemp(pattern.data()) != nullptr);
    path = pattern;
  }
  ~ScratchFolder() { std::filesystem::remove_all(path); }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  std::string operator/(const std::string& name) const { return (path / name).string(); }
  /// What stands in it, sorted.
  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(path)) names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
  }
};

}  // namespace outrigger

#endif  // OUTRIGGER_TESTS_SUPPORT_SCRATCH_FOLDER_H_
