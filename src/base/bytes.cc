// Sizes for people.
#include "src/base/bytes.h"

#include "src/base/formatted.h"

namespace outrigger {

std::string format_bytes(uint64_t bytes) {
  if (bytes < 1024) return formatted("{} B", bytes);
  double value = static_cast<double>(bytes);
  const char* const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  int unit = -1;
  do {
    value /= 1024;
    ++unit;
  } while (value >= 1024 && unit < 5);
  return formatted("{:.1f} {}", value, units[unit]);
}

}  // namespace outrigger
