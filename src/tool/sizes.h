// Sizes and rates as people write them: "512MiB", "8GB", "75%", "4GB/s".
#ifndef OUTRIGGER_SRC_TOOL_SIZES_H_
#define OUTRIGGER_SRC_TOOL_SIZES_H_

#include <outrigger/status.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace outrigger::tool {

/// Bytes, or a share of something that is known later.
struct ByteSize {
  uint64_t bytes = 0;
  double share = 0;  ///< above 0 and at most 1 when it was given in percent; then bytes is 0
};

/// A number with a unit: B or none, kB/MB/GB/TB (powers of 1000), KiB/MiB/GiB/TiB (powers of 1024), or %.
/// Errors: kInvalidArgument for anything else, a negative or unrepresentable size, a share outside (0, 100] %.
Result<ByteSize> parse_size(std::string_view text);

/// Bytes a second: parse_size's units but %, then "/s". Errors: kInvalidArgument; also for 0.
Result<double> parse_rate(std::string_view text);

/// "612 B", "93.8 MiB", "4.00 GiB".
std::string format_size(uint64_t bytes);

}  // namespace outrigger::tool

#endif  // OUTRIGGER_SRC_TOOL_SIZES_H_
