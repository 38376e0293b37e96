// SpillFile: a file without a name, for what memory has no room for.
#ifndef OUTRIGGER_SRC_IO_SPILL_FILE_H_
#define OUTRIGGER_SRC_IO_SPILL_FILE_H_

#include <outrigger/status.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "src/io/byte_source.h"

namespace outrigger {

/// Where it is when nobody says: TMPDIR, unless there is none or it is memory, as /tmp often is; then /var/tmp.
std::string default_spill_directory();

/// Gone with the process, however that ends. Its space is taken when it is made, so that no later write finds the disk full. Reads and
/// writes go past the page cache where the file system lets them; where not, what they leave in the cache is written out and dropped.
/// Threads: any, for ranges that do not overlap. Reading and writing allocate nothing but the text of an error.
class SpillFile {
 public:
  /// Of `bytes`, in whole pages of 4096, in `directory`. Errors: kIo, which says how much was asked for; kInvalidArgument for a directory
  /// that is itself memory; kUnsupported for DirectIo::kOn where the file system refuses it.
  static Result<std::unique_ptr<SpillFile>> create(const std::string& directory, uint64_t bytes, DirectIo direct = DirectIo::kAuto);
  ~SpillFile();
  SpillFile(const SpillFile&) = delete;
  SpillFile& operator=(const SpillFile&) = delete;

  /// Preconditions: the offset and the size are multiples of 4096 and inside the file; the memory is aligned to 4096.
  /// Interrupted and short transfers are continued. Errors: kIo with the directory and the offset.
  Status read(uint64_t offset, std::span<std::byte> dst) const;
  Status write(uint64_t offset, std::span<const std::byte> src);
  /// After some writes: leaves nothing of them in memory. Free where they went past the page cache. Errors: kIo.
  Status settle();

  /// The same file for a queue of reads. Preconditions as read(); `file` outlives it.
  static std::shared_ptr<const ByteSource> as_source(const SpillFile& file);

  bool is_direct() const { return is_direct_; }
  uint64_t bytes() const { return bytes_; }
  const std::string& directory() const { return directory_; }

 private:
  class Source;

  SpillFile(std::string directory, int file, uint64_t bytes) : directory_(std::move(directory)), file_(file), bytes_(bytes) {}
  Status reserve();
  void go_direct();
  Status failed(const char* what, uint64_t offset, uint64_t bytes, int error) const;
  template <typename Transfer>
  Status transfer(const char* what, uint64_t offset, uint64_t bytes, Transfer once) const;

  const std::string directory_;
  const int file_;
  const uint64_t bytes_;
  bool is_direct_ = false;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_IO_SPILL_FILE_H_
