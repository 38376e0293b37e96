// Whole files in, and files out that appear complete or not at all.
#ifndef OUTRIGGER_SRC_TOOL_FILES_H_
#define OUTRIGGER_SRC_TOOL_FILES_H_

#include <outrigger/status.h>

#include <cstdio>
#include <string>
#include <string_view>

namespace outrigger::tool {

/// All bytes of a file as they are; "-" is standard input. Errors: kNotFound, kIo.
Result<std::string> read_file(const std::string& path);

/// A file under a temporary name beside `path` until commit(); without it nothing is left behind.
class AtomicFile {
 public:
  /// Errors: kNotFound when there is no such folder, kIo.
  static Result<AtomicFile> create(const std::string& path);
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;
  ~AtomicFile();

  Status write(std::string_view bytes);
  /// Puts it on the disk and gives it its name. Errors: kIo.
  Status commit();

 private:
  AtomicFile(std::FILE* file, std::string path, std::string temporary);
  Status failure(const char* what) const;
  std::FILE* file_;
  std::string path_, temporary_;
};

/// create, write, commit.
Status write_file(const std::string& path, std::string_view bytes);

}  // namespace outrigger::tool

#endif  // OUTRIGGER_SRC_TOOL_FILES_H_
