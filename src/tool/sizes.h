// Sizes for people; how people write them is the library's (outrigger/sizes.h).
#ifndef OUTRIGGER_SRC_TOOL_SIZES_H_
#define OUTRIGGER_SRC_TOOL_SIZES_H_

#include <outrigger/sizes.h>

#include <cstdint>
#include <string>

namespace outrigger::tool {

/// "612 B", "93.8 MiB", "4.00 GiB".
std::string format_size(uint64_t bytes);

}  // namespace outrigger::tool

#endif  // OUTRIGGER_SRC_TOOL_SIZES_H_
