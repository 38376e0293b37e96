// Our own formats from codes: the other way round from dequantize_own.cc.
#ifndef OUTRIGGER_SRC_TENSOR_ENCODE_OWN_H_
#define OUTRIGGER_SRC_TENSOR_ENCODE_OWN_H_

#include <cstddef>
#include <cstdint>
#include <optional>

#include "src/tensor/dtype.h"

namespace outrigger {

/// Weights that share a scale and a minimum.
inline constexpr size_t kOwnBlock = 64;

/// kO2, kO3 and kO4 for 2, 3 and 4; nothing for other widths.
std::optional<DType> own_type(int bits);

/// Writes a block: `scale` and `minimum` as float16 bits, `codes` [kOwnBlock] below 2^bits. The value of a code c is scale * c + minimum, each operation rounded
/// to float32.
void encode_own_block(DType type, uint16_t scale, uint16_t minimum, const uint8_t* codes, std::byte* dst);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_TENSOR_ENCODE_OWN_H_
