// Journal: the head, the note, the slots at fixed places, then records up to the end.
#include "src/io/journal.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "src/base/checksum.h"
#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/io/atomic_file.h"

namespace outrigger {
namespace {

constexpr uint64_t kMagic = 0x6c6e726a7274756f;  // "outrjrnl"
constexpr uint32_t kVersion = 1;                 // of what this file writes; what the content means is part of the identity
constexpr uint64_t kNoteOffset = 512, kSlotsOffset = 8192;
constexpr int kTries = 10;  // at a file that others take away as it is opened

struct Head {
  uint64_t magic = kMagic;
  uint32_t version = kVersion, slots = 0;
  uint64_t identity = 0;
  std::array<uint64_t, Journal::kMostSlots> slot_bytes{};
  uint64_t sum = 0;  // of what is before it

  uint64_t right_sum() const { return checksum64(std::as_bytes(std::span(this, 1)).first(offsetof(Head, sum))); }
};

/// Before each content.
struct Seal {
  uint64_t bytes = 0, sum = 0;
};
static_assert(kNoteOffset + sizeof(Seal) + Journal::kMostNote <= kSlotsOffset && sizeof(Head) <= kNoteOffset);

uint64_t seal_sum(std::span<const std::byte> content, uint64_t seed) { return checksum64(content, seed ^ content.size()); }

}  // namespace

Journal::Journal(std::string path, uint64_t identity, std::span<const uint64_t> slot_bytes)
    : path_(std::move(path)), identity_(identity), slot_bytes_(slot_bytes.begin(), slot_bytes.end()) {}

Journal::Journal(Journal&& other) noexcept
    : path_(std::move(other.path_)),
      dropped_(std::move(other.dropped_)),
      identity_(other.identity_),
      slot_bytes_(std::move(other.slot_bytes_)),
      records_(std::move(other.records_)),
      file_(std::exchange(other.file_, -1)) {}

Journal::~Journal() {
  if (file_ >= 0) ::close(file_);
}

Status Journal::failed(const char* what, int error) const {
  return Status(StatusCode::kIo, formatted("{}: {}", what, std::generic_category().message(error))).in_file(path_);
}

// Another process may take the file away between its being opened and locked.
Status Journal::open_locked() {
  for (int i = 0; i < kTries; ++i) {
    file_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0600);
    if (file_ < 0) return failed("cannot open", errno);
    struct stat there;
    if (::fstat(file_, &there) != 0) return failed("cannot open", errno);
    if (!S_ISREG(there.st_mode)) return Status(StatusCode::kIo, "not a regular file").in_file(path_);
    if (::flock(file_, LOCK_EX | LOCK_NB) != 0) {
      return errno == EWOULDBLOCK ? Status(StatusCode::kIo, "another process is using it").in_file(path_) : failed("cannot lock", errno);
    }
    if (::fstat(file_, &there) == 0 && there.st_nlink > 0) return {};
    ::close(std::exchange(file_, -1));
  }
  return Status(StatusCode::kIo, "other processes keep taking it away").in_file(path_);
}

Result<Journal> Journal::open(const std::string& path, uint64_t identity, std::span<const uint64_t> slot_bytes) {
  Journal journal(path, identity, slot_bytes);
  OTR_TRY(journal.open_locked());
  struct stat there;
  if (::fstat(journal.file_, &there) != 0) return journal.failed("cannot open", errno);
  if (journal.is_of_another_kind(static_cast<uint64_t>(there.st_size))) {
    return Status(StatusCode::kInvalidArgument, "a file of another kind has the name that what is done is kept under; move it away")
        .in_file(path);
  }
  if (there.st_size > 0) journal.dropped_ = journal.what_differs();
  if (there.st_size == 0 || !journal.dropped_.empty()) {
    const Status started = journal.start_anew();
    if (!started.is_ok()) journal.remove();  // what is there is of no use to anybody
    OTR_TRY(started);
  } else {
    journal.find_records(static_cast<uint64_t>(there.st_size));
  }
  return journal;
}

// Zeros are what a machine leaves that stopped before a new file's content was on the disk.
bool Journal::is_of_another_kind(uint64_t file_bytes) const {
  uint64_t magic = 0;
  const auto beginning = std::as_writable_bytes(std::span(&magic, 1)).first(std::min<uint64_t>(file_bytes, sizeof magic));
  return !read_at(0, beginning) || (magic != 0 && std::memcmp(&magic, &kMagic, beginning.size()) != 0);
}

std::string Journal::what_differs() const {
  Head head;
  if (!read_at(0, std::as_writable_bytes(std::span(&head, 1))) || head.magic != kMagic) return "it is no such file";
  if (head.version != kVersion) return formatted("it is of version {}, this one writes {}", head.version, kVersion);
  if (head.sum != head.right_sum()) return "its beginning is damaged";
  const auto slots = std::span(head.slot_bytes).first(std::min<size_t>(head.slots, kMostSlots));
  const bool is_same = head.identity == identity_ && std::equal(slots.begin(), slots.end(), slot_bytes_.begin(), slot_bytes_.end());
  return is_same ? "" : "it is of other work";
}

// What is left when this is interrupted is a file that will be dropped again.
Status Journal::start_anew() {
  if (::ftruncate(file_, static_cast<off_t>(note().empty() ? 0 : kSlotsOffset)) != 0) return failed("cannot write", errno);
  Head head;
  head.identity = identity_;
  head.slots = static_cast<uint32_t>(slot_bytes_.size());
  std::copy(slot_bytes_.begin(), slot_bytes_.end(), head.slot_bytes.begin());
  head.sum = head.right_sum();
  OTR_TRY(write_at(0, std::as_bytes(std::span(&head, 1))));
  flush_directory_of(path_);
  return {};
}

uint64_t Journal::slot_offset(size_t slot) const {
  uint64_t offset = kSlotsOffset;
  for (size_t i = 0; i < slot; ++i) offset += sizeof(Seal) + slot_bytes_[i];
  return offset;
}

uint64_t Journal::end() const {
  return records_.empty() ? slot_offset(slot_bytes_.size()) : records_.back().offset + records_.back().bytes;
}

uint64_t Journal::seed_at(uint64_t offset) const { return checksum64(std::as_bytes(std::span(&offset, 1)), identity_); }

void Journal::find_records(uint64_t file_bytes) {
  Seal seal;
  for (uint64_t at = end(); at < file_bytes && file_bytes - at >= sizeof seal; at = end()) {
    if (!read_at(at, std::as_writable_bytes(std::span(&seal, 1))) || seal.bytes > file_bytes - at - sizeof seal) return;
    records_.push_back({at + sizeof seal, seal.bytes});
  }
}

Status Journal::write_sealed(uint64_t offset, std::span<const std::byte> content, uint64_t seed) {
  const Seal seal{content.size(), seal_sum(content, seed)};
  OTR_TRY(write_at(offset + sizeof seal, content));
  return write_at(offset, std::as_bytes(std::span(&seal, 1)));
}

bool Journal::read_sealed(uint64_t offset, std::span<std::byte> content, uint64_t seed) const {
  Seal seal;
  return read_at(offset, std::as_writable_bytes(std::span(&seal, 1))) && seal.bytes == content.size() &&
         read_at(offset + sizeof seal, content) && seal.sum == seal_sum(content, seed);
}

Result<std::vector<std::byte>> Journal::read(size_t record) const {
  std::vector<std::byte> content(record_bytes(record));
  OTR_TRY(read(record, content));
  return content;
}

Status Journal::read(size_t record, std::span<std::byte> content) const {
  const Place place = records_[record];
  if (!read_sealed(place.offset - sizeof(Seal), content, seed_at(place.offset))) {
    return Status(StatusCode::kIo, formatted("record {} is damaged", record)).in_file(path_).at_offset(place.offset);
  }
  return {};
}

Status Journal::append(std::span<const std::byte> content) {
  const uint64_t offset = end() + sizeof(Seal);
  OTR_TRY(write_sealed(offset - sizeof(Seal), content, seed_at(offset)));
  records_.push_back({offset, content.size()});
  return {};
}

Status Journal::truncate(size_t count) {
  if (count >= records_.size()) return {};
  records_.resize(count);
  return ::ftruncate(file_, static_cast<off_t>(end())) == 0 ? Status() : failed("cannot write", errno);
}

Status Journal::write_slot(size_t slot, std::span<const std::byte> content) {
  return write_sealed(slot_offset(slot), content, seed_at(slot_offset(slot)));
}

bool Journal::has_slot(size_t slot) const {
  struct stat there;
  return ::fstat(file_, &there) == 0 && static_cast<uint64_t>(there.st_size) >= slot_offset(slot + 1);
}

std::vector<std::byte> Journal::read_slot(size_t slot) const {
  if (!has_slot(slot)) return {};  // sizes before memory
  std::vector<std::byte> content(slot_bytes_[slot]);
  if (!read_slot(slot, content)) content.clear();
  return content;
}

bool Journal::read_slot(size_t slot, std::span<std::byte> content) const {
  return has_slot(slot) && read_sealed(slot_offset(slot), content, seed_at(slot_offset(slot)));
}

std::string Journal::note() const {
  Seal seal;
  if (!read_at(kNoteOffset, std::as_writable_bytes(std::span(&seal, 1))) || seal.bytes > kMostNote) return {};
  std::string text(seal.bytes, '\0');
  return read_sealed(kNoteOffset, std::as_writable_bytes(std::span(text)), kMagic) ? text : std::string();
}

Status Journal::write_note(const std::string& text) { return write_sealed(kNoteOffset, std::as_bytes(std::span(text)), kMagic); }

Status Journal::flush() { return ::fdatasync(file_) == 0 ? Status() : failed("cannot flush", errno); }

void Journal::remove() {
  ::unlink(path_.c_str());
  ::close(std::exchange(file_, -1));
}

Status Journal::write_at(uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::pwrite(file_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return failed("cannot write", errno);
    offset += static_cast<uint64_t>(written);
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
  return {};
}

bool Journal::read_at(uint64_t offset, std::span<std::byte> bytes) const {
  while (!bytes.empty()) {
    const ssize_t got = ::pread(file_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    offset += static_cast<uint64_t>(got);
    bytes = bytes.subspan(static_cast<size_t>(got));
  }
  return true;
}

}  // namespace outrigger
