// How files spell the bytes of tokens.
#include "src/model/tokenizer_spelling.h"

#include <array>

#include "src/model/utf8.h"

namespace outrigger {
namespace {

constexpr bool is_visible(uint32_t byte) { return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad && byte <= 0xff); }

// By character: the byte it spells, or -1.
constexpr std::array<int16_t, 0x144> kAlphabet = [] {
  std::array<int16_t, 0x144> bytes = {};
  int16_t invisible = 0x100;
  for (int16_t byte = 0; byte < 0x100; ++byte) {
    if (is_visible(static_cast<uint32_t>(byte))) {
      bytes[static_cast<size_t>(byte)] = byte;
    } else {
      bytes[static_cast<size_t>(byte)] = -1;
    }
  }
  for (int16_t byte = 0; byte < 0x100; ++byte) {
    if (!is_visible(static_cast<uint32_t>(byte))) bytes[static_cast<size_t>(invisible++)] = byte;
  }
  return bytes;
}();

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

}  // namespace

bool bytes_from_alphabet(std::string_view text, std::string& bytes) {
  bytes.clear();
  while (!text.empty()) {
    const Utf8Char c = decode_utf8(text);
    if (c.code >= kAlphabet.size() || kAlphabet[c.code] < 0) return false;
    bytes += static_cast<char>(kAlphabet[c.code]);
    text.remove_prefix(c.bytes);
  }
  return true;
}

bool spaces_from_marks(std::string_view text, std::string& bytes) {
  static constexpr std::string_view kMark = "\xe2\x96\x81";
  bytes.clear();
  if (text.find(' ') != std::string_view::npos) return false;
  while (!text.empty()) {
    const size_t mark = text.find(kMark);
    bytes.append(text.substr(0, mark));
    if (mark == std::string_view::npos) return true;
    bytes += ' ';
    text.remove_prefix(mark + kMark.size());
  }
  return true;
}

int byte_from_name(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return -1;
  const int high = hex_digit(text[3]), low = hex_digit(text[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

bool has_inner_space(std::string_view bytes) {
  for (size_t i = 1; i < bytes.size(); ++i) {
    if (bytes[i] == ' ' && bytes[i - 1] != ' ') return true;
  }
  return false;
}

}  // namespace outrigger
