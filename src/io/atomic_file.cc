// Write without a name, flush, give the name, flush the directory.
#include "src/io/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <system_error>
#include <utility>

#include "src/base/bytes.h"
#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/io/byte_source.h"

namespace outrigger {
namespace {

// So that the last flush, which nothing can interrupt, is never long, and a large file does not fill the page cache with what waits for the
// disk.
constexpr uint64_t kFlushBytes = 64_MiB;
constexpr int kTries = 100;  // at a name that nobody has

std::string directory_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash + 1);
}

// Tries `take` with names beside `path` until one is free. The name, or "" and errno.
template <typename Take>
std::string take_name_beside(const std::string& path, Take take) {
  auto seed =
      static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count()) + static_cast<uint64_t>(::getpid()) * 2654435761u;
  for (int i = 0; i < kTries; ++i, seed += 0x9e3779b9) {
    const std::string name = formatted("{}.{:06x}", path, seed & 0xffffff);
    if (take(name.c_str())) return name;
    if (errno != EEXIST) return {};
  }
  return {};
}

}  // namespace

// A file system that cannot do so has done it, or never will.
void flush_directory_of(const std::string& path) {
  const int handle = ::open(directory_of(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (handle < 0) return;
  (void)::fsync(handle);
  ::close(handle);
}

Status AtomicFile::failed(const char* what, int error) const {
  return Status(StatusCode::kIo, formatted("{}: {}", what, std::generic_category().message(error))).in_file(path_);
}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::exchange(other.temporary_, {})),
      file_(std::exchange(other.file_, -1)),
      unflushed_bytes_(other.unflushed_bytes_) {}

AtomicFile::~AtomicFile() {
  if (file_ >= 0) ::close(file_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

Result<AtomicFile> AtomicFile::create(const std::string& path, uint32_t mode) {
  AtomicFile file(path);
  // What would make the name impossible is said now, not when everything has been written.
  struct stat there;
  const bool is_there = ::stat(path.c_str(), &there) == 0;
  if (path.empty() || (!is_there && errno != ENOENT)) return file.failed("cannot create", path.empty() ? ENOENT : errno);
  if (is_there && S_ISDIR(there.st_mode)) return file.failed("cannot create", EISDIR);
  OTR_TRY(file.open(mode));
  return file;
}

bool AtomicFile::open_nameless(uint32_t mode) {
#if defined(O_TMPFILE)
  file_ = ::open(directory_of(path_).c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, mode);
  if (file_ < 0) return false;
  if (::access(formatted("/proc/self/fd/{}", file_).c_str(), F_OK) == 0) return true;
  ::close(std::exchange(file_, -1));
#else
  (void)mode;
#endif
  return false;
}

Status AtomicFile::open(uint32_t mode) {
  if (open_nameless(mode)) return {};
  temporary_ = take_name_beside(path_, [&](const char* name) {
    file_ = ::open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    return file_ >= 0;
  });
  return file_ >= 0 ? Status() : failed("cannot create", errno);
}

Status AtomicFile::reserve(uint64_t bytes) {
  if (::fallocate(file_, FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(bytes)) == 0) return {};
  // Others than these mean that the file system cannot tell.
  if (errno == ENOSPC || errno == EFBIG || errno == EDQUOT) return failed(formatted("cannot write {}", format_bytes(bytes)).c_str(), errno);
  return {};
}

Status AtomicFile::write(std::span<const std::byte> content) {
  while (!content.empty()) {
    const ssize_t written = ::write(file_, content.data(), content.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return failed("cannot write", errno);
    content = content.subspan(static_cast<size_t>(written));
    unflushed_bytes_ += static_cast<uint64_t>(written);
  }
  if (unflushed_bytes_ < kFlushBytes) return {};
  unflushed_bytes_ = 0;
  return ::fdatasync(file_) == 0 ? Status() : failed("cannot flush", errno);
}

Status AtomicFile::rewrite(uint64_t offset, std::span<const std::byte> content) {
  while (!content.empty()) {
    const ssize_t written = ::pwrite(file_, content.data(), content.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return failed("cannot write", errno);
    content = content.subspan(static_cast<size_t>(written));
    offset += static_cast<uint64_t>(written);
  }
  return {};
}

Status AtomicFile::read(uint64_t offset, std::span<std::byte> dst) const {
  while (!dst.empty()) {
    const ssize_t got = ::pread(file_, dst.data(), dst.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return failed("cannot read back", got < 0 ? errno : EIO);
    dst = dst.subspan(static_cast<size_t>(got));
    offset += static_cast<uint64_t>(got);
  }
  return {};
}

// A file without a name cannot take one that is in use: it gets another, which is then moved over it.
Status AtomicFile::name_it() {
  if (temporary_.empty()) {
    const std::string open_file = formatted("/proc/self/fd/{}", file_);
    const auto link_to = [&open_file](const char* name) {
      return ::linkat(AT_FDCWD, open_file.c_str(), AT_FDCWD, name, AT_SYMLINK_FOLLOW) == 0;
    };
    if (link_to(path_.c_str())) return {};
    if (errno == EEXIST) temporary_ = take_name_beside(path_, link_to);
    if (temporary_.empty()) return failed("cannot create", errno);
  }
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) return failed("cannot rename to", errno);
  temporary_.clear();
  return {};
}

Status AtomicFile::commit() {
  if (::fsync(file_) != 0) return failed("cannot flush", errno);
  OTR_TRY(name_it());
  flush_directory_of(path_);
  return {};
}

Status write_file_atomically(const std::string& path, std::span<const std::byte> content) {
  OTR_ASSIGN(AtomicFile file, AtomicFile::create(path, 0600));
  OTR_TRY(file.write(content));
  return file.commit();
}

Result<std::vector<std::byte>> read_whole_file(const std::string& path) {
  OTR_ASSIGN(const std::shared_ptr<const ByteSource> source, open_file(path, DirectIo::kOff));
  std::vector<std::byte> content(source->size_bytes());
  OTR_TRY(source->read(0, content));
  return content;
}

}  // namespace outrigger
