// UTF-8, one character at a time, and the character classes that tokenizers speak about.
#include "src/model/utf8.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>

namespace outrigger {
namespace {

uint32_t byte_at(std::string_view text, size_t i) { return static_cast<unsigned char>(text[i]); }

// How long a character that begins with this byte is; 0 where none does.
uint32_t length_from_lead(uint32_t lead) {
  if (lead < 0x80) return 1;
  if (lead < 0xc2) return 0;
  if (lead < 0xe0) return 2;
  if (lead < 0xf0) return 3;
  return lead < 0xf5 ? 4 : 0;
}

// The second byte carries the bounds: no overlong form, no surrogate, nothing above U+10FFFF.
bool is_second(uint32_t lead, uint32_t byte) {
  const uint32_t low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
  const uint32_t high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
  return byte >= low && byte <= high;
}

bool is_continuation(uint32_t byte) { return (byte & 0xc0) == 0x80; }

bool is_white_space(uint32_t code) {
  if (code <= 0x20) return code == 0x20 || (code >= 0x09 && code <= 0x0d);
  if (code < 0x1680) return code == 0x85 || code == 0xa0;
  return code == 0x1680 || (code >= 0x2000 && code <= 0x200a) || code == 0x2028 || code == 0x2029 || code == 0x202f || code == 0x205f ||
         code == 0x3000;
}

bool is_ascii(char c) { return static_cast<unsigned char>(c) < 0x80; }

// Putting the marks of one character into their order takes time quadratic in their number.
constexpr int kMostMarks = 1024;

bool has_too_many_marks(std::string_view text) {
  int marks = 0;
  while (!text.empty()) {
    const Utf8Char c = decode_utf8(text);
    const bool is_mark = c.code != kInvalidCode && utf8proc_get_property(static_cast<utf8proc_int32_t>(c.code))->combining_class != 0;
    marks = is_mark ? marks + 1 : 0;
    if (marks > kMostMarks) return true;
    text.remove_prefix(c.bytes);
  }
  return false;
}

void append_composed(std::string_view text, std::string& out) {
  utf8proc_uint8_t* composed = nullptr;
  const utf8proc_ssize_t bytes =
      has_too_many_marks(text)
          ? -1
          : utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()), &composed,
                         static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  out.append(bytes < 0 ? text : std::string_view(reinterpret_cast<const char*>(composed), static_cast<size_t>(bytes)));
  std::free(composed);
}

}  // namespace

// An ASCII character composes with marks behind it and with nothing before it, so that a text may be cut in front of each.
bool compose_utf8(std::string_view text, std::string& out) {
  out.clear();
  if (std::all_of(text.begin(), text.end(), is_ascii)) return false;
  while (!text.empty()) {
    const auto first = static_cast<size_t>(std::find_if_not(text.begin(), text.end(), is_ascii) - text.begin());
    const size_t begin = first > 0 ? first - 1 : 0;
    out.append(text.substr(0, begin));
    if (first == text.size()) {
      out.append(text.substr(begin));
      break;
    }
    const auto end = static_cast<size_t>(std::find_if(text.begin() + static_cast<ptrdiff_t>(first), text.end(), is_ascii) - text.begin());
    append_composed(text.substr(begin, end - begin), out);
    text.remove_prefix(end);
  }
  return true;
}

CharClass class_of(uint32_t code) {
  if (code == kInvalidCode) return CharClass::kOther;
  if (is_white_space(code)) return CharClass::kSpace;
  const utf8proc_category_t category = utf8proc_category(static_cast<utf8proc_int32_t>(code));
  if (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO) return CharClass::kLetter;
  if (category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO) return CharClass::kNumber;
  return CharClass::kOther;
}

Utf8Char decode_utf8(std::string_view text) {
  const uint32_t lead = byte_at(text, 0);
  const uint32_t bytes = length_from_lead(lead);
  if (bytes == 1) return {lead, 1};
  if (bytes == 0 || text.size() < bytes || !is_second(lead, byte_at(text, 1))) return {kInvalidCode, 1};
  uint32_t code = lead & (0x7fu >> bytes);
  for (uint32_t i = 1; i < bytes; ++i) {
    if (!is_continuation(byte_at(text, i))) return {kInvalidCode, 1};
    code = code << 6 | (byte_at(text, i) & 0x3f);
  }
  return {code, bytes};
}

void append_utf8(uint32_t code, std::string& out) {
  utf8proc_uint8_t bytes[4];
  const utf8proc_ssize_t length = utf8proc_encode_char(static_cast<utf8proc_int32_t>(code), bytes);
  out.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(length));
}

size_t unfinished_utf8_bytes(std::string_view text) {
  for (size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    const std::string_view tail = text.substr(text.size() - back);
    const uint32_t lead = byte_at(tail, 0);
    if (is_continuation(lead)) continue;
    const bool can_go_on = length_from_lead(lead) > back && (back == 1 || is_second(lead, byte_at(tail, 1)));
    return can_go_on ? back : 0;
  }
  return 0;
}

std::string_view strip_white_space(std::string_view text) {
  size_t begin = 0, end = 0;
  bool seen = false;
  for (size_t i = 0; i < text.size();) {
    const Utf8Char c = decode_utf8(text.substr(i));
    const bool separator = c.code >= 0x1c && c.code <= 0x1f;  // Python counts these as spaces, Unicode does not
    if (class_of(c.code) != CharClass::kSpace && !separator) {
      if (!seen) begin = i;
      seen = true;
      end = i + c.bytes;
    }
    i += c.bytes;
  }
  return text.substr(begin, end - begin);
}

}  // namespace outrigger
