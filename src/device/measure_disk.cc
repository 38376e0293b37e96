// The disk's rate: sequential requests of the size of a slot.
#include "src/device/measure_disk.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "src/base/bytes.h"
#include "src/base/macros.h"
#include "src/device/samples.h"

namespace outrigger {
namespace {

constexpr uint64_t kRequest = 1_MiB;  // what the planner makes of slots as a rule
constexpr uint64_t kPerSample = 4;    // requests timed together: one alone says more about the clock's neighbours than about the disk

Status failed(const std::string& path, int error, const char* what) {
  const StatusCode code = error == ENOENT || error == ENOTDIR ? StatusCode::kNotFound : StatusCode::kIo;
  return Status(code, fmt::format("cannot {} to measure the disk: {}", what, std::generic_category().message(error))).in_file(path);
}

class File {
 public:
  static Result<File> open(const std::string& path) {
    File file;
    file.path_ = path;
    file.fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECT | O_NONBLOCK);
    if (file.fd_ < 0 && errno == EINVAL) {
      file.direct_ = false;
      file.fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    }
    struct stat info {};
    if (file.fd_ < 0 || ::fstat(file.fd_, &info) != 0) return failed(path, errno, "open the file");
    if (!S_ISREG(info.st_mode) || info.st_size == 0) {
      return Status(StatusCode::kIo, "cannot measure the disk: got no regular file with content, need one of some MiB").in_file(path);
    }
    file.bytes_ = static_cast<uint64_t>(info.st_size);
    if (!file.direct_) (void)::posix_fadvise(file.fd_, 0, 0, POSIX_FADV_DONTNEED);
    return file;
  }
  File(File&& other) noexcept
      : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)), bytes_(other.bytes_), direct_(other.direct_), at_(other.at_) {}
  File& operator=(File&&) = delete;
  ~File() {
    if (fd_ >= 0) ::close(fd_);
  }

  bool is_direct() const { return direct_; }

  /// The bytes of the next request, read into `buffer`.
  Result<uint64_t> read_next(std::byte* buffer) {
    if (at_ + kRequest > bytes_) at_ = 0;  // the last piece of a file is a request of another size
    for (;;) {
      const ssize_t got = ::pread(fd_, buffer, kRequest, static_cast<off_t>(at_));
      if (got > 0) return at_ += static_cast<uint64_t>(got), static_cast<uint64_t>(got);
      // Some file systems take O_DIRECT at open and refuse it at the first read.
      if (got < 0 && errno == EINVAL && direct_ && ::fcntl(fd_, F_SETFL, 0) == 0) {
        direct_ = false;
        continue;
      }
      if (got < 0 && errno == EINTR) continue;
      return failed(path_, got < 0 ? errno : EIO, "read the file");
    }
  }

 private:
  File() = default;
  std::string path_;
  int fd_ = -1;
  uint64_t bytes_ = 0;
  bool direct_ = true;
  uint64_t at_ = 0;
};

// A model may be a directory: its largest file of weights. Any other path is itself.
std::string file_to_read(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code failure;
  std::string largest = path;
  uint64_t most_bytes = 0;
  fs::directory_iterator entry(path, failure);
  if (failure) return path;
  for (; !failure && entry != fs::directory_iterator(); entry.increment(failure)) {
    std::error_code ignored;
    const bool has_weights = entry->path().extension() == ".safetensors" && entry->is_regular_file(ignored);
    const uint64_t bytes = has_weights ? entry->file_size(ignored) : 0;
    if (ignored || bytes <= most_bytes) continue;
    most_bytes = bytes;
    largest = entry->path().string();
  }
  return largest;
}

}  // namespace

Result<Rate> measure_disk(Backend& backend, const std::string& path, double seconds) {
  OTR_ASSIGN(File file, File::open(file_to_read(path)));
  OTR_ASSIGN(const DeviceMemory buffer, backend.allocate(kRequest));
  OTR_TRY(file.read_next(buffer.data()).status());  // opens what a first read opens: metadata, the device's sleep

  Samples samples;
  const auto since = [](auto start) { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); };
  const auto begin = std::chrono::steady_clock::now();
  do {
    const auto start = std::chrono::steady_clock::now();
    uint64_t bytes = 0;
    for (uint64_t i = 0; i < kPerSample; ++i) {
      OTR_ASSIGN(const uint64_t got, file.read_next(buffer.data()));
      bytes += got;
    }
    samples.add(static_cast<double>(bytes), since(start));
  } while (samples.count() < 3 || since(begin) < seconds);
  return samples.rate(fmt::format("requests of {} one after the other, {}", format_bytes(kRequest),
                                  file.is_direct() ? "past the page cache" : "through the page cache: the file system has no direct I/O"));
}

}  // namespace outrigger
