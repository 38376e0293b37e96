// ExportedTensor: what a compressed model's tensors become in files for other engines.
#ifndef OUTRIGGER_SRC_COMPRESS_EXPORTED_TENSOR_H_
#define OUTRIGGER_SRC_COMPRESS_EXPORTED_TENSOR_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "src/io/gguf.h"
#include "src/model/model_impl.h"

namespace outrigger {

/// A tensor of the new file, row by row from one of the model's, or of `values`.
struct ExportedTensor {
  std::string name;
  std::vector<uint64_t> dims;
  DType type = DType::kF32;
  const GgufTensor* source = nullptr;  ///< null: `values`
  std::vector<float> values;           ///< of kF32
  uint64_t columns = 0, rows = 0;      ///< of the source, as they are converted
  uint64_t head_rows = 0;              ///< above 0: in each head of so many rows ...
  uint64_t turned_rows = 0;            ///< ... the first half of so many stands between the second, pairs side by side

  uint64_t row_bytes() const;
  uint64_t bytes() const;
  uint64_t source_row_bytes() const;
  /// Which of the source's rows is row `row`.
  uint64_t source_row(uint64_t row) const;
};

/// Preconditions of both: the model has a layout, and none of its tensors is packed.
std::vector<ExportedTensor> backbone_tensors(const Model::Impl& model);
/// Factors as kF16. Empty for a model without low-rank branches.
std::vector<ExportedTensor> adapter_tensors(const Model::Impl& model);

/// `count` rows of the source, as they are read from the file at `src`, in the tensor's type at `dst`; in their order. Types: the source's
/// own, kQ4_1 for one of our own with equal steps, kF16, kF32. Precondition: dst is aligned to 4.
void convert_rows(const ExportedTensor& tensor, const std::byte* src, uint64_t count, std::byte* dst);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_COMPRESS_EXPORTED_TENSOR_H_
