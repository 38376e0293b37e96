// Dequantisation: a row of any supported format as float32, bit-exact with the reference implementation of GGUF.
#ifndef OUTRIGGER_SRC_TENSOR_DEQUANTIZE_H_
#define OUTRIGGER_SRC_TENSOR_DEQUANTIZE_H_

#include <outrigger/status.h>

#include <cstddef>

#include "src/tensor/dtype.h"

namespace outrigger {

/// dst[i] = the value of element i of `src`, for `elements` elements: a multiple of the type's block. `src` needs no alignment.
/// Any thread; allocates nothing. Bits equal those of the `gguf` Python package on every input, NaN payloads aside.
/// Errors: kUnsupported for a type whose layout is known but whose values are not; dst is then untouched.
Status dequantize(DType type, const std::byte* src, float* dst, size_t elements);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_TENSOR_DEQUANTIZE_H_
