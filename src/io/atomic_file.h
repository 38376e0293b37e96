// Writing a file that appears complete under its name, or not at all.
#ifndef OUTRIGGER_SRC_IO_ATOMIC_FILE_H_
#define OUTRIGGER_SRC_IO_ATOMIC_FILE_H_

#include <outrigger/status.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace outrigger {

/// A file that is written piece by piece and then given its name. Until then whatever stood there stays. Where the file system has files
/// without names (and /proc is there to name them) nothing is left behind even by a process that is killed; elsewhere the file is called
/// `path`.XXXXXX meanwhile, and is removed when the object dies. All errors are kIo, naming the file and the system's reason.
class AtomicFile {
 public:
  /// `mode`: permissions, less the process's umask. Refuses a directory in the file's place.
  static Result<AtomicFile> create(const std::string& path, uint32_t mode);

  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;
  /// What was not committed is gone.
  ~AtomicFile();

  /// Says now that the disk has no room for so many bytes, where the file system can tell. Writes nothing.
  Status reserve(uint64_t bytes);
  Status write(std::span<const std::byte> content);
  /// Puts `content` in the place of what was written from `offset` on.
  Status rewrite(uint64_t offset, std::span<const std::byte> content);
  /// Fills `dst` with what was written from `offset` on.
  Status read(uint64_t offset, std::span<std::byte> dst) const;
  /// What a killed process would leave behind; "" for nothing.
  const std::string& temporary() const { return temporary_; }
  /// Flushes the file to the disk, gives it its name, flushes that. Nothing may be written afterwards.
  Status commit();

 private:
  explicit AtomicFile(std::string path) : path_(std::move(path)) {}
  Status open(uint32_t mode);
  bool open_nameless(uint32_t mode);
  Status name_it();
  Status failed(const char* what, int error) const;

  std::string path_;
  std::string temporary_;  ///< where it stands meanwhile; empty: nowhere
  int file_ = -1;
  uint64_t unflushed_bytes_ = 0;
};

/// The name of a file that was made reaches the disk, where the file system can flush a directory.
void flush_directory_of(const std::string& path);

/// Writes `content` as an AtomicFile that only its owner may read.
Status write_file_atomically(const std::string& path, std::span<const std::byte> content);

/// The whole of a regular file. Errors: as open_file.
Result<std::vector<std::byte>> read_whole_file(const std::string& path);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_IO_ATOMIC_FILE_H_
