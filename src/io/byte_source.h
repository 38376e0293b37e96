// ByteSource: where a model's bytes come from: a file read with pread into our own memory, or a caller's buffer.
#ifndef OUTRIGGER_SRC_IO_BYTE_SOURCE_H_
#define OUTRIGGER_SRC_IO_BYTE_SOURCE_H_

#include <outrigger/status.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

namespace outrigger {

/// A byte as a person finds it.
struct BytePlace {
  std::string file;
  uint64_t offset;
};

/// A read of a descriptor that brings a range: `bytes` from `offset` of its file, of which the range begins `lead` bytes in.
struct DescriptorRead {
  int descriptor = -1;
  uint64_t offset = 0, bytes = 0, lead = 0;
};

/// Random-access bytes of a fixed size. Files are never mapped: a mapped file that is truncated kills the process.
/// Threads: all calls may be made from any number of threads at once.
class ByteSource {
 public:
  virtual ~ByteSource() = default;

  /// Path of the file, or "memory": for messages.
  virtual const std::string& name() const = 0;
  virtual uint64_t size_bytes() const = 0;
  /// Bytes of the files behind it; not size_bytes() where several are presented as one.
  virtual uint64_t stored_bytes() const { return size_bytes(); }
  /// The file that holds a byte, and where.
  virtual BytePlace locate(uint64_t offset) const { return {name(), offset}; }

  /// Fills `dst` from `offset` on. Interrupted and short reads are continued; the caller never sees them.
  /// Errors: kIo with the offset when the system refuses, or when the file turns out shorter than it was at open.
  virtual Status read(uint64_t offset, std::span<std::byte> dst) const = 0;

  /// Makes [offset, offset + length) readable at the returned address, past the page cache where the source can. A file is read into
  /// `staging`, the range widened to the device's blocks; a memory source returns its own bytes and leaves `staging` alone.
  /// Preconditions: staging has direct_staging_bytes(length) bytes and is aligned to kDirectAlignment; the range lies inside the source.
  virtual Result<const std::byte*> read_direct(uint64_t offset, uint64_t length, std::span<std::byte> staging) const = 0;
  virtual uint64_t direct_staging_bytes(uint64_t length) const = 0;
  /// The first read that read_direct would make, for somebody who lets the system do many at once; should it bring less than the range,
  /// read_direct knows what to do. The descriptor is the source's and lives as long. None where there is no file, or more than one.
  virtual std::optional<DescriptorRead> descriptor_read(uint64_t /*offset*/, uint64_t /*length*/) const { return std::nullopt; }

  /// Fills `dst` from `offset` on if the page cache already holds all of it, and says whether: what is there need not be read from the disk
  /// again. Never waits for a disk; may leave part of `dst` overwritten. False for a source that was not opened with DirectIo::kAuto.
  virtual bool read_if_cached(uint64_t /*offset*/, std::span<std::byte> /*dst*/) const { return false; }
  /// Whether read_direct bypasses the page cache.
  virtual bool is_direct() const = 0;

  /// kIo if the file's size or modification time is no longer what it was at open; ok for memory.
  virtual Status check_unchanged() const = 0;
};

/// Enough for every block device in use.
inline constexpr size_t kDirectAlignment = 4096;

enum class DirectIo { kAuto, kOn, kOff };

/// Opens a regular file. kAuto reads past the page cache where the file system takes O_DIRECT, kOn fails where it does not.
/// Errors: kNotFound; kIo (a directory, FIFO or device, no permission); kUnsupported for kOn without O_DIRECT.
Result<std::shared_ptr<const ByteSource>> open_file(const std::string& path, DirectIo direct = DirectIo::kAuto);

/// Wraps a caller's bytes, which must outlive the source and not change.
std::shared_ptr<const ByteSource> wrap_memory(std::span<const std::byte> bytes);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_IO_BYTE_SOURCE_H_
