// A branch's factors in few bits: blocks of 32 with one scale, in formats that the kernels have.
#ifndef OUTRIGGER_SRC_COMPRESS_FACTOR_CODES_H_
#define OUTRIGGER_SRC_COMPRESS_FACTOR_CODES_H_

#include <outrigger/status.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "src/memory/leased_vector.h"
#include "src/tensor/dtype.h"

namespace outrigger {

/// Q4_0 for 4 bits, Q8_0 for 8.
DType factor_type(int bits);

/// Encodes `values` [rows, columns], row-major, columns in whole blocks of 32, in the file's layout of factor_type(bits). Of 4 bits the
/// scale is searched for that leaves least of sum over columns of column_weight * error^2; `column_weights` [columns] or empty for equal
/// ones. Precondition: values are finite, and float16 holds a block's scale.
LeasedVector<std::byte> encode_factors(std::span<const float> values, size_t columns, int bits, std::span<const float> column_weights);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_COMPRESS_FACTOR_CODES_H_
