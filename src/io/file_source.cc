// A ByteSource over a regular file: pread, and O_DIRECT through a second descriptor where the file system takes it.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <system_error>
#include <utility>

#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/io/byte_source.h"

namespace outrigger {
namespace {

std::string reason(int error) { return std::system_category().message(error); }

/// Owns a descriptor; -1 is none.
class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_;
};

/// What must stay the same while a file is in use. The change time is left out: a rename or a new link moves it.
struct Identity {
  dev_t device;
  ino_t inode;
  uint64_t size;
  int64_t modified_s, modified_ns;

  explicit Identity(const struct stat& s)
      : device(s.st_dev),
        inode(s.st_ino),
        size(static_cast<uint64_t>(s.st_size)),
        modified_s(s.st_mtim.tv_sec),
        modified_ns(s.st_mtim.tv_nsec) {}
  bool operator==(const Identity&) const = default;
};

class FileSource final : public ByteSource {
 public:
  FileSource(std::string path, Descriptor file, Descriptor direct, bool takes_cached, const Identity& identity)
      : path_(std::move(path)), file_(std::move(file)), direct_(std::move(direct)), takes_cached_(takes_cached), identity_(identity) {}

  const std::string& name() const override { return path_; }
  uint64_t size_bytes() const override { return identity_.size; }
  bool is_direct() const override { return static_cast<bool>(direct_); }

  Status read(uint64_t offset, std::span<std::byte> dst) const override;
  Result<const std::byte*> read_direct(uint64_t offset, uint64_t length, std::span<std::byte> staging) const override;
  std::optional<DescriptorRead> descriptor_read(uint64_t offset, uint64_t length) const override;
  bool read_if_cached(uint64_t offset, std::span<std::byte> dst) const override;
  Status check_unchanged() const override;

  /// The range widened to whole blocks at both ends.
  uint64_t direct_staging_bytes(uint64_t length) const override {
    return (length + 2 * kDirectAlignment - 1) / kDirectAlignment * kDirectAlignment;
  }

 private:
  Status error(uint64_t offset, std::string message) const {
    return Status(StatusCode::kIo, std::move(message)).at_offset(offset).in_file(path_);
  }

  const std::string path_;
  const Descriptor file_;
  const Descriptor direct_;
  const bool takes_cached_;  ///< whether read_if_cached looks at all
  const Identity identity_;
};

Status FileSource::read(uint64_t offset, std::span<std::byte> dst) const {
  while (!dst.empty()) {
    const ssize_t got = ::pread(file_.get(), dst.data(), dst.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return error(offset, formatted("cannot read {} bytes: {}", dst.size(), reason(errno)));
    if (got == 0) {
      return error(offset, formatted("the file ends {} bytes early: it had {} bytes when it was opened and has been cut since", dst.size(),
                                     identity_.size));
    }
    offset += static_cast<uint64_t>(got);
    dst = dst.subspan(static_cast<size_t>(got));
  }
  return {};
}

std::optional<DescriptorRead> FileSource::descriptor_read(uint64_t offset, uint64_t length) const {
  if (!direct_) return DescriptorRead{file_.get(), offset, length, 0};
  const uint64_t lead = offset % kDirectAlignment;
  return DescriptorRead{direct_.get(), offset - lead, (lead + length + kDirectAlignment - 1) / kDirectAlignment * kDirectAlignment, lead};
}

Result<const std::byte*> FileSource::read_direct(uint64_t offset, uint64_t length, std::span<std::byte> staging) const {
  const DescriptorRead whole = *descriptor_read(offset, length);
  const uint64_t wanted = whole.lead + length;
  uint64_t filled = 0;
  // A short count that is not whole blocks is the end of the file or an interruption: what is left goes through the page cache, since
  // the next position would be unaligned. So does everything when the system takes back what it allowed at open.
  while (direct_ && filled < wanted && filled % kDirectAlignment == 0) {
    const ssize_t got = ::pread(whole.descriptor, staging.data() + filled, static_cast<size_t>(whole.bytes - filled),
                                static_cast<off_t>(whole.offset + filled));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    filled += static_cast<uint64_t>(got);
  }
  if (filled < wanted) OTR_TRY(read(whole.offset + filled, staging.subspan(filled, wanted - filled)));
  return static_cast<const std::byte*>(staging.data() + whole.lead);
}

bool FileSource::read_if_cached(uint64_t offset, std::span<std::byte> dst) const {
#if defined(RWF_NOWAIT)
  if (!takes_cached_) return false;
  while (!dst.empty()) {
    const iovec part{dst.data(), dst.size()};
    const ssize_t got = ::preadv2(file_.get(), &part, 1, static_cast<off_t>(offset), RWF_NOWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;  // a page that is not there, or a kernel or file system that cannot tell
    offset += static_cast<uint64_t>(got);
    dst = dst.subspan(static_cast<size_t>(got));
  }
  return true;
#else
  return false;
#endif
}

Status FileSource::check_unchanged() const {
  struct stat now;
  if (::fstat(file_.get(), &now) != 0) return error(0, "cannot be examined: " + reason(errno));
  const Identity current(now);
  if (current == identity_) return {};
  if (current.size != identity_.size) {
    return error(std::min(current.size, identity_.size),
                 formatted("the file changed while in use: it had {} bytes and now has {}", identity_.size, current.size));
  }
  return error(0, "the file changed while in use: its modification time is another");
}

/// A second descriptor past the page cache, or none where the file system refuses or another file has taken the path meanwhile. Some file
/// systems refuse only the read itself, so one block is read.
Descriptor open_direct(const std::string& path, const Identity& identity) {
  Descriptor direct(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | O_DIRECT));
  struct stat now;
  if (!direct || ::fstat(direct.get(), &now) != 0 || Identity(now) != identity) return Descriptor();
  alignas(kDirectAlignment) std::byte block[kDirectAlignment];
  ssize_t got;
  do {
    got = ::pread(direct.get(), block, sizeof block, 0);
  } while (got < 0 && errno == EINTR);
  return got < 0 ? Descriptor() : std::move(direct);
}

const char* kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "a directory";
  if (S_ISFIFO(mode)) return "a FIFO";
  if (S_ISCHR(mode) || S_ISBLK(mode)) return "a device";
  return "not a regular file";
}

}  // namespace

Result<std::shared_ptr<const ByteSource>> open_file(const std::string& path, DirectIo direct) {
  // O_NONBLOCK: opening a FIFO would wait for a writer; it means nothing for a regular file.
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!file) {
    const bool missing = errno == ENOENT || errno == ENOTDIR;
    return Status(missing ? StatusCode::kNotFound : StatusCode::kIo, "cannot open: " + reason(errno)).in_file(path);
  }
  struct stat info;
  if (::fstat(file.get(), &info) != 0) return Status(StatusCode::kIo, "cannot be examined: " + reason(errno)).in_file(path);
  if (!S_ISREG(info.st_mode)) {
    return Status(StatusCode::kIo, formatted("is {}; a model is a regular file", kind_of(info.st_mode))).in_file(path);
  }

  const Identity identity(info);
  Descriptor past_cache = direct == DirectIo::kOff ? Descriptor() : open_direct(path, identity);
  if (direct == DirectIo::kOn && !past_cache) {
    return Status(StatusCode::kUnsupported, "the file system refuses direct reads; allow buffered ones").in_file(path);
  }
  // Somebody who asked for direct reads wants to see the disk; without them every read goes through the cache anyway.
  const bool takes_cached = direct == DirectIo::kAuto && past_cache;
  return std::shared_ptr<const ByteSource>(
      std::make_shared<FileSource>(path, std::move(file), std::move(past_cache), takes_cached, identity));
}

}  // namespace outrigger
