// FloatMatrix: reading and converting.
#include "src/forward/float_matrix.h"

#include "src/base/macros.h"
#include "src/tensor/dequantize.h"
#include "src/tensor/packed.h"

namespace outrigger {

namespace {

// `rows` rows that stand in `raw` as a file has them.
Result<LeasedVector<float>> converted(const WeightSource& weight, std::span<const std::byte> raw, uint64_t rows) {
  LeasedVector<float> values(rows * weight.columns);
  if (!weight.is_packed) {
    OTR_TRY(dequantize(weight.type, raw.data(), values.data(), values.size()));
    return values;
  }
  for (uint64_t row = 0; row < rows; ++row) unpack_row(weight.kind, raw.data(), row, weight.columns, values.data() + row * weight.columns);
  return values;
}

}  // namespace

Result<LeasedVector<float>> read_matrix(const ByteSource& source, const WeightSource& weight, uint32_t expert) {
  LeasedVector<std::byte> raw(weight.expert_file_bytes());
  OTR_TRY(source.read(weight.offset_of(expert * weight.blocks_per_expert()), raw));
  return converted(weight, raw, weight.rows);
}

Result<LeasedVector<float>> read_rows(const ByteSource& source, const WeightSource& weight, uint64_t first, uint64_t rows) {
  const uint64_t block = first / kPackRows;
  LeasedVector<std::byte> raw(weight.file_bytes(block, (rows + kPackRows - 1) / kPackRows));
  OTR_TRY(source.read(weight.offset_of(block), raw));
  return converted(weight, raw, rows);
}

Result<LeasedVector<float>> embed_tokens(const Model::Impl& model, std::span<const Token> tokens) {
  const WeightSource& weight = model.layout->weights[model.layout->embedding];
  const uint64_t width = model.layout->config.width;
  LeasedVector<float> rows(tokens.size() * width);
  LeasedVector<std::byte> raw(weight.row_bytes);
  for (size_t t = 0; t < tokens.size(); ++t) {
    const auto row = static_cast<uint64_t>(tokens[t]);
    OTR_TRY(model.file.source().read(weight.file_offset + (weight.is_packed ? row / kPackRows : row) * weight.row_bytes, raw));
    if (weight.is_packed) {
      unpack_row(weight.kind, raw.data(), row % kPackRows, width, rows.data() + t * width);
    } else {
      OTR_TRY(dequantize(weight.type, raw.data(), rows.data() + t * width, width));
    }
  }
  return rows;
}

}  // namespace outrigger
