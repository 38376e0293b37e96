// UTF-8, one character at a time, and the character classes that tokenizers speak about.
#ifndef OUTRIGGER_SRC_MODEL_UTF8_H_
#define OUTRIGGER_SRC_MODEL_UTF8_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace outrigger {

/// Stands for a byte that is not part of a well-formed character.
inline constexpr uint32_t kInvalidCode = 0xffffffff;

struct Utf8Char {
  uint32_t code;   ///< kInvalidCode for a byte that begins no well-formed character
  uint32_t bytes;  ///< 1 to 4; 1 for an invalid byte
};

/// The character at the start of `text`, which must not be empty. Overlong forms, surrogates and codes above U+10FFFF are invalid.
Utf8Char decode_utf8(std::string_view text);

/// Appends the character's bytes. Precondition: a valid code point.
void append_utf8(uint32_t code, std::string& out);

/// Bytes at the end of `text` (0 to 3) that are the beginning of a character which more bytes could complete.
size_t unfinished_utf8_bytes(std::string_view text);

enum class CharClass : uint8_t { kLetter, kNumber, kSpace, kOther };

/// Unicode's general categories L and N, its White_Space property, and the rest; kOther for kInvalidCode.
CharClass class_of(uint32_t code);

/// `text` in Unicode's normalization form C, into `out`; false, and nothing in `out`, if it is ASCII and so composed already. What is not
/// well-formed stays as it is, up to the next ASCII character, and so do runs of more marks on one character than any language has.
bool compose_utf8(std::string_view text, std::string& out);

/// `text` without white space at its ends, as Python's str.strip does it.
std::string_view strip_white_space(std::string_view text);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_UTF8_H_
