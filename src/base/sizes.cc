// Sizes and rates as people write them.
#include <outrigger/sizes.h>

#include <array>
#include <charconv>
#include <cmath>

#include "src/base/formatted.h"

namespace outrigger {
namespace {

struct Unit {
  std::string_view name;
  double bytes;
};

constexpr std::array<Unit, 11> kUnits = {{{"", 1},
                                          {"B", 1},
                                          {"kB", 1e3},
                                          {"KB", 1e3},
                                          {"MB", 1e6},
                                          {"GB", 1e9},
                                          {"TB", 1e12},
                                          {"KiB", 0x1p10},
                                          {"MiB", 0x1p20},
                                          {"GiB", 0x1p30},
                                          {"TiB", 0x1p40}}};

// Beyond this a double no longer tells neighbouring bytes apart, and no machine has that much.
constexpr double kMostBytes = 0x1p53;

Status bad_size(std::string_view text, std::string_view need) {
  return Status(StatusCode::kInvalidArgument, formatted("got '{}', need {}", text, need));
}

// The number in front of the unit; negative when there is none.
double leading_number(std::string_view text, std::string_view* unit) {
  double number = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  if (error != std::errc() || !std::isfinite(number)) return -1;
  *unit = text.substr(static_cast<size_t>(end - text.data()));
  return number;
}

}  // namespace

Result<ByteSize> parse_size(std::string_view text) {
  constexpr std::string_view kNeed = "a size such as 512MiB, 8GB, 75% or a number of bytes";
  std::string_view unit;
  const double number = leading_number(text, &unit);
  if (number < 0 || std::signbit(number)) return bad_size(text, kNeed);
  if (unit == "%") {
    if (number <= 0 || number > 100) return bad_size(text, "a share above 0% and at most 100%");
    return ByteSize{0, number / 100};
  }
  for (const Unit& candidate : kUnits) {
    if (unit != candidate.name) continue;
    const double bytes = number * candidate.bytes;
    if (bytes > kMostBytes) return bad_size(text, "a size of at most 8192 TiB");
    return ByteSize{static_cast<uint64_t>(bytes), 0};
  }
  return bad_size(text, kNeed);
}

Result<double> parse_rate(std::string_view text) {
  constexpr std::string_view kNeed = "a rate such as 4GB/s or 500MiB/s";
  if (!text.ends_with("/s")) return bad_size(text, kNeed);
  const auto size = parse_size(text.substr(0, text.size() - 2));
  if (!size.is_ok() || size.value().bytes == 0) return bad_size(text, kNeed);
  return static_cast<double>(size.value().bytes);
}

}  // namespace outrigger
