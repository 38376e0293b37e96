// Our own formats in one that every program has.
#ifndef OUTRIGGER_SRC_TENSOR_RECODE_OWN_H_
#define OUTRIGGER_SRC_TENSOR_RECODE_OWN_H_

#include <cstddef>
#include <cstdint>

#include "src/tensor/dtype.h"

namespace outrigger {

/// The same values as Q4_1: a block of 64 or 128 becomes blocks of 32 that have its scale, its minimum and its codes, which are below 16.
/// So their dequantised bits are equal too: scale * code has at most 15 significant bits, and the sum with the minimum is rounded once.
/// `dst` has room for 20 bytes for each 32 weights; neither needs alignment. Precondition: `type` is one of our own with equal steps.
void recode_own_as_q4_1(DType type, const std::byte* src, uint64_t blocks, std::byte* dst);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_TENSOR_RECODE_OWN_H_
