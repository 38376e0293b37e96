// Our own formats from codes: the other way round from dequantize_own.cc.
#ifndef OUTRIGGER_SRC_TENSOR_ENCODE_OWN_H_
#define OUTRIGGER_SRC_TENSOR_ENCODE_OWN_H_

#include <cstddef>
#include <cstdint>

#include "src/tensor/own_form.h"

namespace outrigger {

/// Weights that share a scale and a minimum in the formats that low-bit copies are made in.
inline constexpr size_t kOwnBlock = 64;

/// Writes a block: `scale` and `minimum` as float16 bits, `codes`, one for each weight of the block, below 2^bits. The value of a code is
/// scale * its level + minimum, each operation rounded to float32. Precondition: the type is ours.
void encode_own_block(DType type, uint16_t scale, uint16_t minimum, const uint8_t* codes, std::byte* dst);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_TENSOR_ENCODE_OWN_H_
