// JsonScanner: grammar, UTF-8, depth, duplicate keys.
#include "src/io/json_scanner.h"

#include <utf8proc.h>

#include <algorithm>
#include <functional>

#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/io/printable.h"

namespace outrigger {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

int hex_digit(char c) {
  if (is_digit(c)) return c - '0';
  const char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

uint32_t hex_code(std::string_view digits) {
  uint32_t code = 0;
  for (const char c : digits.substr(0, 4)) code = code << 4 | static_cast<uint32_t>(hex_digit(c));
  return code;
}

bool is_high_surrogate(uint32_t code) { return code >= 0xd800 && code < 0xdc00; }
bool is_low_surrogate(uint32_t code) { return code >= 0xdc00 && code < 0xe000; }

}  // namespace

std::string decode_json_string(std::string_view literal) {
  std::string bytes;
  bytes.reserve(literal.size());
  while (!literal.empty()) {
    const size_t escape = literal.find('\\');
    bytes.append(literal.substr(0, escape));
    if (escape == std::string_view::npos) break;
    const char kind = literal[escape + 1];
    literal.remove_prefix(escape + 2);
    static constexpr std::string_view kNames = "bfnrt", kCodes = "\b\f\n\r\t";
    if (const size_t named = kNames.find(kind); named != std::string_view::npos) {
      bytes += kCodes[named];
    } else if (kind == 'u') {
      uint32_t code = hex_code(literal);
      literal.remove_prefix(4);
      if (is_high_surrogate(code)) {
        code = 0x10000 + ((code - 0xd800) << 10) + (hex_code(literal.substr(2)) - 0xdc00);
        literal.remove_prefix(6);
      }
      utf8proc_uint8_t encoded[4];
      const utf8proc_ssize_t length = utf8proc_encode_char(static_cast<utf8proc_int32_t>(code), encoded);
      bytes.append(reinterpret_cast<const char*>(encoded), static_cast<size_t>(length));
    } else {
      bytes += kind;
    }
  }
  return bytes;
}

Status JsonScanner::error(uint32_t at, std::string message) const {
  return Status(StatusCode::kCorruptFile, "not valid JSON: " + std::move(message))
      .in_file(document_.file)
      .at_offset(document_.file_offset + at);
}

Status JsonScanner::unexpected(const char* need) const {
  if (is_at_end()) return error(at_, formatted("the text ends where {} is needed", need));
  const auto c = static_cast<uint8_t>(here());
  const std::string got = c > 0x20 && c < 0x7f ? formatted("'{:c}'", here()) : formatted("the byte {:#04x}", c);
  return error(at_, formatted("got {}, need {}", got, need));
}

void JsonScanner::skip_space() {
  while (!is_at_end() && is_json_space(text_[at_])) ++at_;
}

Status JsonScanner::scan() {
  for (;;) {
    bool is_open = false;
    skip_space();
    OTR_TRY(begin_value(&is_open));
    if (is_open) continue;
    for (;;) {
      skip_space();
      if (open_.empty()) return is_at_end() ? Status() : unexpected("the end of the text");
      if (here() == ',') {
        ++at_;
        if (open_.back().is_object) OTR_TRY(take_key());
        break;
      }
      if (here() != (open_.back().is_object ? '}' : ']')) return unexpected(open_.back().is_object ? "',' or '}'" : "',' or ']'");
      OTR_TRY(close());
    }
  }
}

// A scalar is passed; an object or array that is not empty is entered, up to its first value.
Status JsonScanner::begin_value(bool* is_open) {
  const char c = here();
  if (c == '"') return take_string();
  if (c == '-' || is_digit(c)) return take_number();
  if (c == 't') return take_word("true");
  if (c == 'f') return take_word("false");
  if (c == 'n') return take_word("null");
  if (c != '{' && c != '[') return unexpected("a value");
  if (open_.size() == kJsonMaxDepth) return error(at_, formatted("objects and arrays are nested more than {} deep", kJsonMaxDepth));
  open_.push_back({c == '{', static_cast<uint32_t>(keys_.size())});
  ++at_;
  skip_space();
  if (here() == (c == '{' ? '}' : ']')) return close();
  *is_open = true;
  return c == '{' ? take_key() : Status();
}

Status JsonScanner::close() {
  if (open_.back().is_object) OTR_TRY(check_keys(open_.back().first_key));
  open_.pop_back();
  ++at_;
  return {};
}

Status JsonScanner::take_key() {
  skip_space();
  if (here() != '"') return unexpected("a key in quotes");
  const uint32_t start = at_;
  OTR_TRY(take_string());
  const std::string_view literal = text_.substr(start + 1, at_ - start - 2);
  const bool has_escape = literal.find('\\') != std::string_view::npos;
  const size_t hash = has_escape ? std::hash<std::string>{}(decode_json_string(literal)) : std::hash<std::string_view>{}(literal);
  keys_.push_back(uint64_t{static_cast<uint32_t>(hash)} << 32 | start);
  skip_space();
  if (here() != ':') return unexpected("':'");
  ++at_;
  return {};
}

Status JsonScanner::take_string() {
  ++at_;
  while (!is_at_end()) {
    const auto c = static_cast<uint8_t>(text_[at_]);
    if (c == '"') {
      ++at_;
      return {};
    }
    if (c < 0x20) return error(at_, formatted("a string contains the control character {}; it must be escaped", c));
    if (c == '\\') {
      OTR_TRY(take_escape());
    } else if (c < 0x80) {
      ++at_;
    } else {
      utf8proc_int32_t code;
      const utf8proc_ssize_t length = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text_.data()) + at_,
                                                       static_cast<utf8proc_ssize_t>(text_.size() - at_), &code);
      if (length <= 0) return error(at_, "a string is not valid UTF-8");
      at_ += static_cast<uint32_t>(length);
    }
  }
  return unexpected("the end of a string");
}

Status JsonScanner::take_escape() {
  const uint32_t start = at_++;
  const char kind = here();
  if (kind != 'u') {
    if (is_at_end() || std::string_view("\"\\/bfnrt").find(kind) == std::string_view::npos)
      return unexpected("one of \"\\/bfnrtu after a backslash");
    ++at_;
    return {};
  }
  ++at_;
  uint32_t code = 0, low = 0;
  OTR_TRY(take_hex(&code));
  if (is_low_surrogate(code)) return error(start, "the second half of a surrogate pair without the first");
  if (!is_high_surrogate(code)) return {};
  if (text_.substr(at_, 2) == "\\u") {
    at_ += 2;
    OTR_TRY(take_hex(&low));
  }
  return is_low_surrogate(low) ? Status() : error(start, "the first half of a surrogate pair without the second");
}

Status JsonScanner::take_hex(uint32_t* code) {
  for (int i = 0; i < 4; ++i, ++at_) {
    if (is_at_end() || hex_digit(here()) < 0) return unexpected("four hexadecimal digits after \\u");
    *code = *code << 4 | static_cast<uint32_t>(hex_digit(here()));
  }
  return {};
}

Status JsonScanner::take_digits() {
  if (!is_digit(here())) return unexpected("a digit");
  while (is_digit(here())) ++at_;
  return {};
}

Status JsonScanner::take_number() {
  if (here() == '-') ++at_;
  if (here() == '0') {
    ++at_;
  } else {
    OTR_TRY(take_digits());
  }
  if (here() == '.') {
    ++at_;
    OTR_TRY(take_digits());
  }
  if (here() == 'e' || here() == 'E') {
    ++at_;
    if (here() == '+' || here() == '-') ++at_;
    OTR_TRY(take_digits());
  }
  return {};
}

Status JsonScanner::take_word(std::string_view word) {
  if (text_.substr(at_, word.size()) != word) return unexpected("a value");
  at_ += static_cast<uint32_t>(word.size());
  return {};
}

std::string_view JsonScanner::literal_at(uint32_t at) const {
  uint32_t end = at + 1;
  while (text_[end] != '"') end += text_[end] == '\\' ? 2 : 1;
  return text_.substr(at + 1, end - at - 1);
}

int JsonScanner::compare_keys(uint32_t a, uint32_t b) const {
  const std::string_view left = literal_at(a), right = literal_at(b);
  const bool plain = left.find('\\') == std::string_view::npos && right.find('\\') == std::string_view::npos;
  return plain ? left.compare(right) : decode_json_string(left).compare(decode_json_string(right));
}

// Keys of one hash are told apart by their text, so that no chosen set of keys costs more than sorting it.
Status JsonScanner::check_keys(uint32_t first) {
  const auto begin = keys_.begin() + first, end = keys_.end();
  const auto place = [](uint64_t key) { return static_cast<uint32_t>(key); };
  if (end - begin > 1) {
    std::sort(begin, end, [&](uint64_t a, uint64_t b) {
      if (a >> 32 != b >> 32) return a >> 32 < b >> 32;
      const int order = a == b ? 0 : compare_keys(place(a), place(b));
      return order != 0 ? order < 0 : a < b;
    });
    const auto twice =
        std::adjacent_find(begin, end, [&](uint64_t a, uint64_t b) { return a >> 32 == b >> 32 && compare_keys(place(a), place(b)) == 0; });
    if (twice != end) {
      return error(place(twice[1]), formatted("the key \"{}\" appears twice, first at byte {}", printable(literal_at(place(*twice))),
                                              document_.file_offset + place(*twice)));
    }
  }
  keys_.erase(begin, end);
  return {};
}

}  // namespace outrigger
