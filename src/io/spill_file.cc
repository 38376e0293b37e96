// SpillFile: opened without a name, reserved, then read and written in whole pages.
#include "src/io/spill_file.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <new>
#include <system_error>

#include "src/base/bytes.h"
#include "src/base/formatted.h"
#include "src/base/macros.h"

namespace outrigger {
namespace {

// Transfers in a row that bring less than a page before it counts as an error: a signal may interrupt some, a device that does nothing else
// is broken.
constexpr int kMostStalls = 100;

std::string reason(int error) { return std::generic_category().message(error); }

// Some file systems take files without a name, the others take the name back at once.
int open_nameless(const std::string& directory) {
  const int file = ::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (file >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)) return file;
  std::string path = directory + "/outrigger-XXXXXX";
  const int named = ::mkostemp(path.data(), O_CLOEXEC);
  if (named >= 0) ::unlink(path.c_str());
  return named;
}

bool is_memory(const struct statfs& system) {
  return system.f_type == TMPFS_MAGIC || system.f_type == RAMFS_MAGIC || system.f_type == HUGETLBFS_MAGIC;
}

}  // namespace

std::string default_spill_directory() {
  const char* const named = std::getenv("TMPDIR");
  if (named == nullptr || *named == '\0') return "/var/tmp";
  struct statfs system;
  return ::statfs(named, &system) == 0 && is_memory(system) ? "/var/tmp" : named;
}

Result<std::unique_ptr<SpillFile>> SpillFile::create(const std::string& directory, uint64_t bytes, DirectIo direct) {
  const int handle = open_nameless(directory);
  if (handle < 0) {
    return Status(StatusCode::kIo,
                  formatted("cannot make a file of {} for keys and values: {}; name another directory", format_bytes(bytes), reason(errno)))
        .in_file(directory);
  }
  std::unique_ptr<SpillFile> file(new SpillFile(directory, handle, bytes));
  struct statfs system;
  if (::fstatfs(handle, &system) == 0 && is_memory(system)) {
    return Status(StatusCode::kInvalidArgument,
                  "this directory is memory itself, and what spills there would be beside the budget; name one on a disk")
        .in_file(directory);
  }
  OTR_TRY(file->reserve());
  if (direct != DirectIo::kOff) file->go_direct();
  if (direct == DirectIo::kOn && !file->is_direct_) {
    return Status(StatusCode::kUnsupported, "the file system refuses direct reads and writes; allow buffered ones").in_file(directory);
  }
  return file;
}

class SpillFile::Source final : public ByteSource {
 public:
  explicit Source(const SpillFile& file) : file_(file) {}

  const std::string& name() const override { return file_.directory_; }
  uint64_t size_bytes() const override { return file_.bytes_; }
  bool is_direct() const override { return file_.is_direct_; }
  Status read(uint64_t offset, std::span<std::byte> dst) const override { return file_.read(offset, dst); }
  Result<const std::byte*> read_direct(uint64_t offset, uint64_t length, std::span<std::byte> staging) const override {
    OTR_TRY(file_.read(offset, staging.first(length)));
    return static_cast<const std::byte*>(staging.data());
  }
  uint64_t direct_staging_bytes(uint64_t length) const override { return length; }
  // Buffered reads leave something to be dropped from the page cache, which read() knows and the system's queue does not.
  std::optional<DescriptorRead> descriptor_read(uint64_t offset, uint64_t length) const override {
    if (!file_.is_direct_) return std::nullopt;
    return DescriptorRead{file_.file_, offset, length, 0};
  }
  Status check_unchanged() const override { return {}; }  // nobody else can open it

 private:
  const SpillFile& file_;
};

std::shared_ptr<const ByteSource> SpillFile::as_source(const SpillFile& file) { return std::make_shared<Source>(file); }

SpillFile::~SpillFile() { ::close(file_); }

Status SpillFile::reserve() {
  int error = 0;
  do {
    error = ::fallocate(file_, 0, 0, static_cast<off_t>(bytes_)) == 0 ? 0 : errno;
  } while (error == EINTR);
  if (error == EOPNOTSUPP || error == ENOSYS) error = ::posix_fallocate(file_, 0, static_cast<off_t>(bytes_));
  if (error == 0) return {};
  return Status(StatusCode::kIo,
                formatted("cannot take {} ({} bytes) for keys and values: {}; name a directory with more room, or raise the budget "
                          "so that they stay in memory",
                          format_bytes(bytes_), bytes_, reason(error)))
      .in_file(directory_);
}

// Some file systems refuse only the transfer itself, so a page is written and read.
void SpillFile::go_direct() {
  const int flags = ::fcntl(file_, F_GETFL);
  if (flags < 0 || ::fcntl(file_, F_SETFL, flags | O_DIRECT) != 0) return;
  alignas(kDirectAlignment) std::byte page[kDirectAlignment] = {};
  if (write(0, page).is_ok() && read(0, page).is_ok()) {
    is_direct_ = true;
  } else {
    (void)::fcntl(file_, F_SETFL, flags);
  }
}

Status SpillFile::failed(const char* what, uint64_t offset, uint64_t bytes, int error) const {
  return Status(StatusCode::kIo,
                formatted("cannot {} {} bytes of keys and values: {}", what, bytes, error == 0 ? "nothing more comes" : reason(error)))
      .at_offset(offset)
      .in_file(directory_);
}

// What goes past the page cache begins at whole blocks: of a short transfer, the rest of a block is done again.
template <typename Transfer>
Status SpillFile::transfer(const char* what, uint64_t offset, uint64_t bytes, Transfer once) const {
  uint64_t done = 0;
  for (int stalls = 0; done < bytes;) {
    const ssize_t count = once(done);
    if (count < 0 && errno != EINTR) return failed(what, offset + done, bytes - done, errno);
    const uint64_t some = count < 0 ? 0 : static_cast<uint64_t>(count),
                   whole = done + some == bytes ? some : some / kDirectAlignment * kDirectAlignment;
    done += whole;
    stalls = whole > 0 ? 0 : stalls + 1;
    if (stalls == kMostStalls) return failed(what, offset + done, bytes - done, count < 0 ? EINTR : 0);
  }
  return {};
}

Status SpillFile::read(uint64_t offset, std::span<std::byte> dst) const {
  OTR_TRY(transfer("read", offset, dst.size(), [&](uint64_t done) {
    return ::pread(file_, dst.data() + done, dst.size() - done, static_cast<off_t>(offset + done));
  }));
  if (!is_direct_) (void)::posix_fadvise(file_, static_cast<off_t>(offset), static_cast<off_t>(dst.size()), POSIX_FADV_DONTNEED);
  return {};
}

Status SpillFile::write(uint64_t offset, std::span<const std::byte> src) {
  return transfer("write", offset, src.size(), [&](uint64_t done) {
    return ::pwrite(file_, src.data() + done, src.size() - done, static_cast<off_t>(offset + done));
  });
}

// The system drops only what the disk has.
Status SpillFile::settle() {
  if (is_direct_) return {};
  if (::fdatasync(file_) != 0 && errno != EINTR) return failed("flush", 0, bytes_, errno);
  (void)::posix_fadvise(file_, 0, 0, POSIX_FADV_DONTNEED);
  return {};
}

}  // namespace outrigger
