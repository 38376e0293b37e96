// The one file of the library that compiles fmt's code.
#include "src/base/formatted.h"

#include <fmt/format.h>

#include <iterator>

namespace outrigger {

void append_arguments(std::string* out, fmt::string_view format, fmt::format_args args) {
  fmt::vformat_to(std::back_inserter(*out), format, args);
}

}  // namespace outrigger
