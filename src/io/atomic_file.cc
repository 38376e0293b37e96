// Write beside, flush, rename, flush the directory.
#include "src/io/atomic_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "src/base/macros.h"
#include "src/io/byte_source.h"

namespace outrigger {
namespace {

Status failed(const char* what, const std::string& path, int error) {
  return Status(StatusCode::kIo, fmt::format("{}: {}", what, std::strerror(error))).in_file(path);
}

Status write_all(int file, std::span<const std::byte> content, const std::string& path) {
  while (!content.empty()) {
    const ssize_t written = ::write(file, content.data(), content.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return failed("cannot write", path, errno);
    content = content.subspan(static_cast<size_t>(written));
  }
  return ::fsync(file) == 0 ? Status() : failed("cannot flush", path, errno);
}

// The rename itself must reach the disk; a file system that cannot flush a directory has done so or never will.
void flush_directory_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const int handle = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (handle < 0) return;
  (void)::fsync(handle);
  ::close(handle);
}

}  // namespace

Status write_file_atomically(const std::string& path, std::span<const std::byte> content) {
  std::string temporary = path + ".XXXXXX";
  const int file = ::mkostemp(temporary.data(), O_CLOEXEC);
  if (file < 0) return failed("cannot create", path, errno);
  Status status = write_all(file, content, path);
  if (::close(file) != 0 && status.is_ok()) status = failed("cannot close", path, errno);
  if (status.is_ok() && ::rename(temporary.c_str(), path.c_str()) != 0) status = failed("cannot rename to", path, errno);
  if (!status.is_ok()) {
    ::unlink(temporary.c_str());
    return status;
  }
  flush_directory_of(path);
  return {};
}

Result<std::vector<std::byte>> read_whole_file(const std::string& path) {
  OTR_ASSIGN(const std::shared_ptr<const ByteSource> source, open_file(path, DirectIo::kOff));
  std::vector<std::byte> content(source->size_bytes());
  OTR_TRY(source->read(0, content));
  return content;
}

}  // namespace outrigger
