// formatted(): fmt's format strings, checked while compiling, with fmt's code in one place.
#ifndef OUTRIGGER_SRC_BASE_FORMATTED_H_
#define OUTRIGGER_SRC_BASE_FORMATTED_H_

#include <fmt/core.h>

#include <string>
#include <utility>

namespace outrigger {

/// What fmt makes of it, behind what `out` has. Header-only fmt takes 3 s in every file that formats; this way one file compiles it, and
/// nothing built here needs its library to run. All of these throw std::bad_alloc.
void append_arguments(std::string* out, fmt::string_view format, fmt::format_args args);

template <typename... Args>
void append_formatted(std::string* out, fmt::format_string<Args...> format, Args&&... args) {
  append_arguments(out, format, fmt::make_format_args(args...));
}

template <typename... Args>
std::string formatted(fmt::format_string<Args...> format, Args&&... args) {
  std::string text;
  append_arguments(&text, format, fmt::make_format_args(args...));
  return text;
}

/// Each as "{}" has it, with `between` between two of them.
template <typename Range>
std::string joined(const Range& values, const char* between) {
  std::string text;
  const char* before = "";
  for (const auto& value : values) {
    append_formatted(&text, "{}{}", before, value);
    before = between;
  }
  return text;
}

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_BASE_FORMATTED_H_
