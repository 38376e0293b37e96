// Sizes for people.
#include "src/tool/sizes.h"

#include <fmt/format.h>

#include <array>

namespace outrigger::tool {

std::string format_size(uint64_t bytes) {
  constexpr std::array<const char*, 5> kNames = {"B", "KiB", "MiB", "GiB", "TiB"};
  if (bytes < 1024) return fmt::format("{} B", bytes);
  double value = static_cast<double>(bytes);
  size_t name = 0;
  // 999.5 and not 1024: three digits are enough to read.
  while (value >= 999.5 && name + 1 < kNames.size()) {
    value /= 1024;
    ++name;
  }
  return fmt::format("{:.{}f} {}", value, value < 9.995 ? 2 : value < 99.95 ? 1 : 0, kNames[name]);
}

}  // namespace outrigger::tool
