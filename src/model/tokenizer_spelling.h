// How files spell the bytes of tokens.
#ifndef OUTRIGGER_SRC_MODEL_TOKENIZER_SPELLING_H_
#define OUTRIGGER_SRC_MODEL_TOKENIZER_SPELLING_H_

#include <string>
#include <string_view>

namespace outrigger {

/// Byte-level vocabularies spell each byte as a printable character: the visible characters of Latin-1 as themselves, the other 68 bytes as
/// U+0100 and up, in order. Puts the bytes into `bytes`; false if `text` has a character outside that alphabet.
/// @source The GPT-2 release (OpenAI 2019).
bool bytes_from_alphabet(std::string_view text, std::string& bytes);

/// SentencePiece spells a space U+2581. Puts the text with spaces into `bytes`; false if it has a real space as well, which it never means.
bool spaces_from_marks(std::string_view text, std::string& bytes);

/// The byte that "<0x00>" to "<0xFF>" names, with digits in either case; -1 for any other text.
int byte_from_name(std::string_view text);

/// Whether a space stands behind another character.
bool has_inner_space(std::string_view bytes);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_TOKENIZER_SPELLING_H_
