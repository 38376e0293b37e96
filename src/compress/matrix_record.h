// MatrixRecord: a compressed matrix as bytes, for going on with it later.
#ifndef OUTRIGGER_SRC_COMPRESS_MATRIX_RECORD_H_
#define OUTRIGGER_SRC_COMPRESS_MATRIX_RECORD_H_

#include <outrigger/status.h>

#include <cstddef>
#include <span>
#include <vector>

#include "src/compress/matrix_maker.h"
#include "src/memory/leased_vector.h"

namespace outrigger {

/// Adds all of it to `record`. Throws std::bad_alloc.
void append_matrix_record(const CompressedMatrix& made, LeasedVector<std::byte>* record);

/// Takes a matrix, or of a stack one expert's, from the front of `record`, with the same bits. It is one that compressing `weight` by
/// `plan` can make: types and sizes are checked before memory is taken. Errors: kCorruptFile; kOutOfMemory is thrown, as std::bad_alloc.
Result<CompressedMatrix> take_matrix_record(const MatrixPlan& plan, const WeightSource& weight, int factor_bits,
                                            std::span<const std::byte>* record);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_COMPRESS_MATRIX_RECORD_H_
