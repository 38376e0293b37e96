// Text from files, as messages may show it.
#ifndef OUTRIGGER_SRC_IO_PRINTABLE_H_
#define OUTRIGGER_SRC_IO_PRINTABLE_H_

#include <cstddef>
#include <string>
#include <string_view>

namespace outrigger {

/// The first `most_characters` of `text` on one line and well-formed: a line's end as \n, other control characters and bytes of no
/// character as U+FFFD, "..." where it was cut.
std::string printable(std::string_view text, size_t most_characters = 80);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_IO_PRINTABLE_H_
