// Sizes and rates as people write them: "512MiB", "8GB", "75%", "4GB/s".
#ifndef OUTRIGGER_SIZES_H_
#define OUTRIGGER_SIZES_H_

#include <outrigger/export.h>
#include <outrigger/status.h>

#include <cstdint>
#include <string_view>

namespace outrigger {

/// Bytes, or a share of something that is known later.
struct ByteSize {
  uint64_t bytes = 0;
  double share = 0;  ///< above 0 and at most 1 when it was given in percent; then bytes is 0
};

/// A number with a unit: B or none, kB/MB/GB/TB (powers of 1000), KiB/MiB/GiB/TiB (powers of 1024), or %.
/// Errors: kInvalidArgument for anything else, a negative or unrepresentable size, a share outside (0, 100] %.
OTR_API Result<ByteSize> parse_size(std::string_view text);

/// Bytes a second: parse_size's units but %, then "/s". Errors: kInvalidArgument; also for 0.
OTR_API Result<double> parse_rate(std::string_view text);

}  // namespace outrigger

#endif  // OUTRIGGER_SIZES_H_
