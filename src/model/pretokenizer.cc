// Pre-tokenizers: the scanners.
#include "src/model/pretokenizer.h"

#include <array>

#include "src/model/utf8.h"

namespace outrigger {
namespace {

enum class Kind : uint8_t { kLetter, kNumber, kSpace, kOther, kEnd };

struct Char {
  Kind kind;
  uint32_t code;
  size_t end;  ///< where the next one begins
};

constexpr std::array<Kind, 128> kAsciiKinds = [] {
  std::array<Kind, 128> kinds = {};
  for (size_t c = 0; c < 128; ++c) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'), space = c == ' ' || (c >= '\t' && c <= '\r');
    kinds[c] = letter ? Kind::kLetter : space ? Kind::kSpace : c >= '0' && c <= '9' ? Kind::kNumber : Kind::kOther;
  }
  return kinds;
}();

Char char_at(std::string_view text, size_t pos) {
  if (pos >= text.size()) return {Kind::kEnd, kInvalidCode, pos};
  const unsigned char byte = static_cast<unsigned char>(text[pos]);
  if (byte < 0x80) return {kAsciiKinds[byte], byte, pos + 1};  // most text, at a fifth of the time
  const Utf8Char c = decode_utf8(text.substr(pos));
  return {static_cast<Kind>(class_of(c.code)), c.code, pos + c.bytes};
}
static_assert(static_cast<int>(Kind::kOther) == static_cast<int>(CharClass::kOther));

bool is_line_end(const Char& c) { return c.code == '\r' || c.code == '\n'; }

size_t end_of_run(std::string_view text, size_t pos, Kind kind) {
  for (Char c = char_at(text, pos); c.kind == kind; c = char_at(text, pos)) pos = c.end;
  return pos;
}

// The length of 's 't 're 've 'm 'll 'd at the start of `text`, or 0.
size_t contraction_bytes(std::string_view text, bool any_case) {
  // Unicode folds the long s (U+017F) to s, and so do the engines that ran the published pattern.
  if (any_case && text.substr(1, 2) == "\xc5\xbf") return 3;
  const auto letter = [&](size_t i) {
    return i >= text.size() ? '\0' : any_case && text[i] >= 'A' && text[i] <= 'Z' ? text[i] + 32 : text[i];
  };
  const char first = static_cast<char>(letter(1)), second = static_cast<char>(letter(2));
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  if ((first == 'r' || first == 'v') && second == 'e') return 3;
  return first == 'l' && second == 'l' ? 3 : 0;
}

struct SpaceRun {
  size_t end;             ///< where the run ends
  size_t last;            ///< where its last character begins
  size_t after_line_end;  ///< behind its last line end; 0 if it has none
  Kind next;              ///< what follows it
};

SpaceRun scan_spaces(std::string_view text) {
  SpaceRun run = {0, 0, 0, Kind::kEnd};
  Char c = char_at(text, 0);
  for (; c.kind == Kind::kSpace; c = char_at(text, run.end)) {
    run.last = run.end;
    run.end = c.end;
    if (is_line_end(c)) run.after_line_end = c.end;
  }
  run.next = c.kind;
  return run;
}

// A run of spaces leaves its last one to the word that follows.
size_t spaces_bytes(const SpaceRun& run, bool word_follows) { return word_follows && run.last > 0 ? run.last : run.end; }

size_t gpt2_bytes(std::string_view text, bool digits_alone) {
  Char c = char_at(text, 0);
  if (c.code == '\'') {
    if (const size_t bytes = contraction_bytes(text, false)) return bytes;
  }
  if (c.code == ' ') {
    const Char next = char_at(text, c.end);
    const bool takes_space = next.kind == Kind::kLetter || next.kind == Kind::kOther || (next.kind == Kind::kNumber && !digits_alone);
    if (takes_space) c = next;
  }
  if (c.kind == Kind::kNumber && digits_alone) return c.end;
  if (c.kind != Kind::kSpace) return end_of_run(text, c.end, c.kind);
  const SpaceRun run = scan_spaces(text);
  // Digits are cut out before anything else, so what stands before one ends like the text does.
  return spaces_bytes(run, run.next != Kind::kEnd && !(run.next == Kind::kNumber && digits_alone));
}

size_t llama3_bytes(std::string_view text, int most_digits) {
  const Char c = char_at(text, 0);
  const Char next = char_at(text, c.end);
  if (c.code == '\'') {
    if (const size_t bytes = contraction_bytes(text, true)) return bytes;
  }
  if (c.kind == Kind::kLetter) return end_of_run(text, c.end, Kind::kLetter);
  if (c.kind == Kind::kNumber) {
    size_t end = c.end;
    Char digit = next;
    for (int digits = 1; digits < most_digits && digit.kind == Kind::kNumber; ++digits) {
      end = digit.end;
      digit = char_at(text, end);
    }
    return end;
  }
  if (next.kind == Kind::kLetter && !is_line_end(c)) return end_of_run(text, next.end, Kind::kLetter);
  if (c.kind == Kind::kOther || (c.code == ' ' && next.kind == Kind::kOther)) {
    size_t end = end_of_run(text, c.end, Kind::kOther);
    while (is_line_end(char_at(text, end))) ++end;
    return end;
  }
  const SpaceRun run = scan_spaces(text);
  return run.after_line_end > 0 ? run.after_line_end : spaces_bytes(run, run.next != Kind::kEnd);
}

}  // namespace

std::optional<PreTokenizer> find_pre_tokenizer(std::string_view name) {
  if (name == "gpt-2" || name == "default") return PreTokenizer::kGpt2;
  if (name == "smollm") return PreTokenizer::kSmolLm;
  if (name == "llama-bpe" || name == "llama3" || name == "llama-v3") return PreTokenizer::kLlama3;
  if (name == "qwen2") return PreTokenizer::kQwen2;
  return std::nullopt;
}

size_t pre_token_bytes(PreTokenizer kind, std::string_view text) {
  switch (kind) {
    case PreTokenizer::kGpt2:
      return gpt2_bytes(text, false);
    case PreTokenizer::kSmolLm:
      return gpt2_bytes(text, true);
    case PreTokenizer::kLlama3:
      return llama3_bytes(text, 3);
    case PreTokenizer::kQwen2:
      return llama3_bytes(text, 1);
  }
  return text.size();
}

}  // namespace outrigger
