// The largest sizes that a model's configuration may name, whichever file it comes from.
#ifndef OUTRIGGER_SRC_MODEL_CONFIG_LIMITS_H_
#define OUTRIGGER_SRC_MODEL_CONFIG_LIMITS_H_

#include <cstdint>

namespace outrigger {

// Far above any model in use, and small enough that no product of a few of them overflows 64 bits.
inline constexpr uint64_t kMostLayers = 4096;
inline constexpr uint64_t kMostHeads = 65536;
inline constexpr uint64_t kMostHeadDim = 4096;
inline constexpr uint64_t kMostWidth = 1 << 20;
inline constexpr uint64_t kMostFfnWidth = 1 << 24;  ///< of an expert too
inline constexpr uint64_t kMostContext = 1 << 30;

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_CONFIG_LIMITS_H_
