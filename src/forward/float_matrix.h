// FloatMatrix: one of a model's matrices as float32, as its file has it.
#ifndef OUTRIGGER_SRC_FORWARD_FLOAT_MATRIX_H_
#define OUTRIGGER_SRC_FORWARD_FLOAT_MATRIX_H_

#include <outrigger/status.h>
#include <outrigger/tokenizer.h>

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "src/io/byte_source.h"
#include "src/memory/leased_vector.h"
#include "src/memory/weight_source.h"
#include "src/model/model_impl.h"

namespace outrigger {

/// [rows, columns], row-major, of one expert of the source.
/// Errors: kIo; kUnsupported for a type that cannot be converted. Throws std::bad_alloc.
Result<LeasedVector<float>> read_matrix(const ByteSource& source, const WeightSource& weight, uint32_t expert = 0);

/// Rows [first, first + rows) of one that is no stack, which begin at a row block. Errors and exceptions as read_matrix's.
Result<LeasedVector<float>> read_rows(const ByteSource& source, const WeightSource& weight, uint64_t first, uint64_t rows);

/// One of a layout's matrices; of a stack, one expert's. Stands for a matrix wherever there are no experts.
struct MatrixIndex {
  MatrixIndex(uint32_t matrix, uint32_t expert = 0) : matrix(matrix), expert(expert) {}
  operator uint32_t() const { return matrix; }

  uint32_t matrix, expert;
};

/// Its values, [rows, columns], row-major, as it is to be multiplied with.
using MatrixReader = std::function<Result<LeasedVector<float>>(MatrixIndex part)>;

/// The tokens' rows of the model's embedding, [tokens, width]. Precondition: they are of its vocabulary. Errors: kIo. Throws
/// std::bad_alloc.
Result<LeasedVector<float>> embed_tokens(const Model::Impl& model, std::span<const Token> tokens);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_FORWARD_FLOAT_MATRIX_H_
