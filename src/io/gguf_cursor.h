// GgufCursor: reads a GGUF header front to back, a growing piece of the file at a time. Internal to this room.
#ifndef OUTRIGGER_SRC_IO_GGUF_CURSOR_H_
#define OUTRIGGER_SRC_IO_GGUF_CURSOR_H_

#include <outrigger/status.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "src/io/byte_source.h"
#include "src/io/printable.h"

namespace outrigger {

/// Position in a header, the bytes read so far, and what is being read, for messages. A move past the end of the file is an error with
/// the offset, never a read; nothing is allocated for a length before that check.
class GgufCursor {
 public:
  explicit GgufCursor(const ByteSource& source) : source_(source) {}

  uint64_t position() const { return position_; }
  uint64_t remaining() const { return source_.size_bytes() - position_; }

  /// The key or tensor that errors are about from here on; empty for the header's own fields.
  void set_subject(std::string_view subject) { subject_ = printable(subject); }
  const std::string& subject() const { return subject_; }

  /// Makes `count` elements of `element_bytes` readable and moves past them; `what` names them in the error.
  Status skip(uint64_t count, uint64_t element_bytes, const char* what);
  /// A little-endian number.
  template <typename T>
  Status take(T* value, const char* what) {
    Status status = skip(1, sizeof *value, what);
    if (status.is_ok()) std::memcpy(value, bytes_.data() + position_ - sizeof *value, sizeof *value);
    return status;
  }
  /// A string: its length, then its bytes. The view holds until the next call.
  Status take_text(std::string_view* text, const char* what);

  /// Back to an earlier position, whose bytes stay loaded.
  void rewind(uint64_t position) { position_ = position; }
  const std::byte* at(uint64_t position) const { return bytes_.data() + position; }
  /// Drops what was read beyond the current position, and the slack.
  void trim();
  /// Everything read, at the address it has. The cursor is spent afterwards.
  std::vector<std::byte> release() { return std::move(bytes_); }

  Status corrupt(uint64_t offset, std::string message) const { return error(StatusCode::kCorruptFile, offset, std::move(message)); }
  Status unsupported(uint64_t offset, std::string message) const { return error(StatusCode::kUnsupported, offset, std::move(message)); }

 private:
  Status load(uint64_t end);
  Status error(StatusCode code, uint64_t offset, std::string message) const {
    return Status(code, std::move(message)).at_offset(offset).in_file(source_.name()).about(subject_);
  }

  const ByteSource& source_;
  std::vector<std::byte> bytes_;  ///< the file from its start
  uint64_t position_ = 0;
  std::string subject_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_IO_GGUF_CURSOR_H_
