// Low-bit copies: row blocks of any packed kind as row blocks of two, three or four bits.
#ifndef OUTRIGGER_SRC_TENSOR_LOW_BIT_COPY_H_
#define OUTRIGGER_SRC_TENSOR_LOW_BIT_COPY_H_

#include <cstddef>
#include <cstdint>

#include "src/tensor/dtype.h"
#include "src/tensor/packed.h"

namespace outrigger {

/// Columns that a copy needs a multiple of: a block of our own formats.
inline constexpr uint64_t kCopyColumns = 64;

/// Quantises `rows` rows of `columns` elements, row blocks of `kind` at `src`, to row blocks of `own` at `dst`: each block of 64 weights by
/// itself, with the scale and the minimum that leave least of its squared error, every column counting alike. Bits depend on nothing but
/// the weights. Any thread; allocates nothing, takes some 20 KB of stack. Cost: some 30 roundings of each weight. Preconditions: `own` is
/// kO2, kO3 or kO4; `columns` is a multiple of kCopyColumns. Weights that are no numbers or beyond float16 make copies that are none.
void copy_low_bit(PackedKind kind, const std::byte* src, uint64_t rows, uint64_t columns, DType own, std::byte* dst);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_TENSOR_LOW_BIT_COPY_H_
