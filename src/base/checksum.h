// checksum64: tells accidents from what was written.
#ifndef OUTRIGGER_SRC_BASE_CHECKSUM_H_
#define OUTRIGGER_SRC_BASE_CHECKSUM_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace outrigger {

/// A change inside one of the eight-byte words that `bytes` begins with, or in `seed`, always gives another sum; any other change does but
/// once in 2^64. No protection from those who mean it. The sum of one piece may be the seed of the next. Cost: 32 bytes in some six cycles.
uint64_t checksum64(std::span<const std::byte> bytes, uint64_t seed = 0);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_BASE_CHECKSUM_H_
