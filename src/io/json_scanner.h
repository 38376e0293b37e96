// JsonScanner: the one pass that decides whether a text is JSON. Internal to this room.
#ifndef OUTRIGGER_SRC_IO_JSON_SCANNER_H_
#define OUTRIGGER_SRC_IO_JSON_SCANNER_H_

#include <outrigger/status.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "src/io/json_text.h"

namespace outrigger {

constexpr bool is_json_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

/// The bytes of a string literal between its quotes, escapes resolved. Precondition: the scanner has accepted it.
std::string decode_json_string(std::string_view literal);

/// Walks a document once. Nesting is a list, not recursion.
class JsonScanner {
 public:
  /// Precondition: the text has at most kJsonMaxBytes.
  explicit JsonScanner(const json_detail::Document& document) : document_(document), text_(document.text) {}

  Status scan();

 private:
  struct Open {
    bool is_object;
    uint32_t first_key;  ///< index into keys_
  };

  Status error(uint32_t at, std::string message) const;
  /// "got 'x'", or that the text ends.
  Status unexpected(const char* need) const;
  bool is_at_end() const { return at_ >= text_.size(); }
  char here() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  void skip_space();
  Status begin_value(bool* is_open);
  Status take_key();
  Status take_string();
  Status take_escape();
  Status take_hex(uint32_t* code);
  Status take_number();
  Status take_digits();
  Status take_word(std::string_view word);
  Status close();
  Status check_keys(uint32_t first);
  /// Between the quotes of the key that begins at `at`.
  std::string_view literal_at(uint32_t at) const;
  int compare_keys(uint32_t a, uint32_t b) const;

  const json_detail::Document& document_;
  const std::string_view text_;
  uint32_t at_ = 0;
  std::vector<Open> open_;
  std::vector<uint64_t> keys_;  ///< of the open objects: hash above place
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_IO_JSON_SCANNER_H_
