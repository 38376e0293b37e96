// Journal: what long work has made so far, in a file that can be used whenever its process was killed.
#ifndef OUTRIGGER_SRC_IO_JOURNAL_H_
#define OUTRIGGER_SRC_IO_JOURNAL_H_

#include <outrigger/status.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace outrigger {

/// Records, which are only added, and slots, which are written over. Each has a checksum that also knows its place and whose it is: what
/// was being written when the process, or the machine, stopped reads as not there. Nothing is trusted that is read: sizes are checked
/// against the file's before memory is taken. The file is locked while the object lives. Errors are kIo where nothing else is said.
/// Threads: one.
class Journal {
 public:
  static constexpr size_t kMostSlots = 4, kMostNote = 4096;

  /// Opens or makes the file. What another `identity`, other slots, or another version of the file wrote is dropped, but for the note.
  /// Errors: kIo, also when another process has it, or it is no regular file; kInvalidArgument when there is a file of another kind, which
  /// is left as it is.
  static Result<Journal> open(const std::string& path, uint64_t identity, std::span<const uint64_t> slot_bytes);

  Journal(Journal&& other) noexcept;
  Journal& operator=(Journal&&) = delete;
  /// The file stays.
  ~Journal();

  /// Why what was found was dropped, in words; empty: nothing was.
  const std::string& dropped() const { return dropped_; }

  /// The records that were found: of a file that broke off, those before the break. Their contents are checked when they are read.
  size_t records() const { return records_.size(); }
  Result<std::vector<std::byte>> read(size_t record) const;
  uint64_t record_bytes(size_t record) const { return records_[record].bytes; }
  /// The same into `content`, of record_bytes().
  Status read(size_t record, std::span<std::byte> content) const;
  Status append(std::span<const std::byte> content);
  /// Drops the records from `count` on.
  Status truncate(size_t count);

  /// `content`: as many bytes as the slot has. A slot that is being written over when the process stops is empty.
  Status write_slot(size_t slot, std::span<const std::byte> content);
  /// Empty: there is nothing valid.
  std::vector<std::byte> read_slot(size_t slot) const;
  /// The same into `content`, as many bytes as the slot has; false where read_slot() gives nothing.
  bool read_slot(size_t slot, std::span<std::byte> content) const;

  /// A text that survives another identity; "" when there is none.
  std::string note() const;
  /// Precondition: at most kMostNote bytes.
  Status write_note(const std::string& text);

  /// What was written so far reaches the disk before what is written from now on.
  Status flush();
  /// Takes the file away. Nothing may be called afterwards.
  void remove();

 private:
  struct Place {
    uint64_t offset, bytes;  ///< of the content
  };

  Journal(std::string path, uint64_t identity, std::span<const uint64_t> slot_bytes);
  Status open_locked();
  Status start_anew();
  bool is_of_another_kind(uint64_t file_bytes) const;
  std::string what_differs() const;
  void find_records(uint64_t file_bytes);
  uint64_t slot_offset(size_t slot) const;
  bool has_slot(size_t slot) const;
  uint64_t end() const;
  uint64_t seed_at(uint64_t offset) const;
  Status write_sealed(uint64_t offset, std::span<const std::byte> content, uint64_t seed);
  bool read_sealed(uint64_t offset, std::span<std::byte> content, uint64_t seed) const;
  Status write_at(uint64_t offset, std::span<const std::byte> bytes);
  bool read_at(uint64_t offset, std::span<std::byte> bytes) const;
  Status failed(const char* what, int error) const;

  std::string path_, dropped_;
  uint64_t identity_;
  std::vector<uint64_t> slot_bytes_;
  std::vector<Place> records_;
  int file_ = -1;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_IO_JOURNAL_H_
