// Errors, struct sizes and buffers across the C boundary.
#include "capi/capi_common.h"

#include <utility>

namespace outrigger::capi {
namespace {

// Copies as much as fits, never half a character: bytes 10xxxxxx continue one.
template <size_t kBytes>
void copy_text(std::string_view text, char (&to)[kBytes]) noexcept {
  size_t size = std::min(text.size(), kBytes - 1);
  while (size > 0 && size < text.size() && (static_cast<unsigned char>(text[size]) & 0xC0) == 0x80) --size;
  std::memcpy(to, text.data(), size);
  to[size] = '\0';
}

}  // namespace

bool is_usable(const otr_error* error) noexcept {
  return error == nullptr || (error->struct_size >= kFirstBytes<otr_error> && error->struct_size <= kLargestStructBytes);
}

otr_status report(otr_status code, const char* message, otr_error* error) noexcept {
  if (error == nullptr) return code;
  error->status = code;
  error->needed_bytes = error->given_bytes = error->byte_offset = 0;
  error->subject[0] = error->file[0] = '\0';
  copy_text(message, error->message);
  return code;
}

otr_status report(const Status& status, otr_error* error) noexcept {
  const auto code = static_cast<otr_status>(status.code());
  if (error == nullptr) return code;
  report(code, "", error);
  if (status.is_ok()) return code;
  error->needed_bytes = status.needed_bytes();
  error->given_bytes = status.given_bytes();
  error->byte_offset = status.byte_offset();
  copy_text(status.subject(), error->subject);
  copy_text(status.file(), error->file);
  try {
    copy_text(status.to_string(), error->message);
  } catch (...) {
    copy_text(status.message(), error->message);
  }
  return code;
}

Status invalid(std::string message) { return Status(StatusCode::kInvalidArgument, std::move(message)); }

Status require(const void* pointer, const char* what) {
  return pointer != nullptr ? Status() : invalid(std::string(what) + " is NULL; it is needed");
}

Status require_array(const void* pointer, size_t count, const char* what) { return count == 0 ? Status() : require(pointer, what); }

Status check_struct_size(uint32_t given, uint32_t least, const char* what) {
  if (given >= least && given <= kLargestStructBytes) return {};
  return invalid(std::string(what) + ".struct_size: got " + std::to_string(given) + ", need " + std::to_string(least) +
                 " or more; set it to sizeof the struct");
}

Status check_no_unknown_bytes(const void* given, uint32_t given_bytes, size_t known_bytes, const char* what) {
  const auto* bytes = static_cast<const unsigned char*>(given);
  if (given_bytes <= known_bytes || std::all_of(bytes + known_bytes, bytes + given_bytes, [](unsigned char byte) { return byte == 0; }))
    return {};
  return invalid(std::string(what) + " sets a field that version " + otr_version() +
                 " of the library does not have; leave it at its default, or " + "use a newer library");
}

Status check_reserved(uint32_t reserved, const char* what) {
  return reserved == 0 ? Status() : invalid(std::string(what) + ".reserved: got " + std::to_string(reserved) + ", need 0");
}

Status check_flags(uint32_t flags, uint32_t known, const char* what) {
  if ((flags & ~known) == 0) return {};
  return invalid(std::string(what) + " has unknown bits: got " + std::to_string(flags) + ", known are " + std::to_string(known));
}

Status buffer_too_small(size_t capacity, size_t needed, const char* unit) {
  return invalid("the buffer is too small: got a capacity of " + std::to_string(capacity) + ", need " + std::to_string(needed) + " " +
                 unit);
}

Status give_text(std::string_view text, char* buffer, size_t capacity, size_t* bytes) {
  *bytes = text.size();
  if (buffer == nullptr) return {};
  if (capacity <= text.size()) return buffer_too_small(capacity, text.size() + 1, "bytes with the NUL");
  std::memcpy(buffer, text.data(), text.size());
  buffer[text.size()] = '\0';
  return {};
}

CancelToken token_of(const otr_cancel* cancel) { return cancel != nullptr ? cancel->token : CancelToken(); }

Progress progress_of(otr_progress progress, void* user) {
  if (progress == nullptr) return {};
  return [progress, user](double share) { return progress(user, share) == 0; };
}

}  // namespace outrigger::capi
