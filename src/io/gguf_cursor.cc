// GgufCursor: bounds, progressive reading, messages.
#include "src/io/gguf_cursor.h"

#include <algorithm>

#include "src/base/bytes.h"
#include "src/base/checked.h"
#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/io/gguf.h"

namespace outrigger {
namespace {

// One read covers the header of a small vocabulary; larger ones double the piece, so the bytes copied stay below twice the header.
constexpr uint64_t kFirstRead = 256_KiB;

}  // namespace

Status GgufCursor::skip(uint64_t count, uint64_t element_bytes, const char* what) {
  const CheckedSize bytes = CheckedSize(count) * element_bytes;
  if (!bytes.fits(remaining())) {
    const std::string needed = bytes.value() ? std::to_string(*bytes.value()) : formatted("{} x {}", count, element_bytes);
    return corrupt(position_, formatted("the file ends inside {}: {} bytes needed, {} remain", what, needed, remaining()));
  }
  const uint64_t end = position_ + *bytes.value();
  if (end > bytes_.size()) OTR_TRY(load(end));
  position_ = end;
  return {};
}

Status GgufCursor::take_text(std::string_view* text, const char* what) {
  uint64_t length;
  OTR_TRY(take(&length, what));
  OTR_TRY(skip(length, 1, what));
  *text = {reinterpret_cast<const char*>(bytes_.data() + position_ - length), static_cast<size_t>(length)};
  return {};
}

Status GgufCursor::load(uint64_t end) {
  if (end > kGgufMaxHeaderBytes) {
    return unsupported(
        position_, formatted("the header reaches to at least {}, the limit is {}", format_bytes(end), format_bytes(kGgufMaxHeaderBytes)));
  }
  const uint64_t loaded = bytes_.size();
  const uint64_t target = std::min(std::max({end, 2 * loaded, kFirstRead}), source_.size_bytes());
  bytes_.reserve(target);
  bytes_.resize(target);
  return source_.read(loaded, std::span(bytes_).subspan(loaded));
}

void GgufCursor::trim() {
  bytes_.resize(position_);
  bytes_.shrink_to_fit();
}

}  // namespace outrigger
