// Text from files, as messages may show it.
#include "src/io/printable.h"

#include <utf8proc.h>

namespace outrigger {

std::string printable(std::string_view text, size_t most_characters) {
  static constexpr std::string_view kReplacement = "\xef\xbf\xbd";
  std::string shown;
  for (size_t i = 0; !text.empty(); ++i) {
    if (i == most_characters) return shown + "...";
    utf8proc_int32_t code = 0;
    // Four bytes are enough of any character, and their number fits the library's signed sizes.
    const std::string_view front = text.substr(0, 4);
    const utf8proc_ssize_t found =
        utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(front.data()), static_cast<utf8proc_ssize_t>(front.size()), &code);
    const size_t bytes = found > 0 ? static_cast<size_t>(found) : 1;
    if (code == '\n') {
      shown += "\\n";
    } else if (found <= 0 || code < 0x20 || code == 0x7f) {
      shown += kReplacement;
    } else {
      shown += text.substr(0, bytes);
    }
    text.remove_prefix(bytes);
  }
  return shown;
}

}  // namespace outrigger
