// Fixed tensors: read one after the other.
#include "src/model/fixed_tensors.h"

#include <cmath>
#include <vector>

#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/tensor/dequantize.h"

namespace outrigger {
namespace {

// Frequencies are divided by them once, here: what is not a number would turn every token's queries and keys into none.
Status check_rope_factors(const GgufFile& file, const ModelLayout& layout, const float* fixed) {
  if (layout.rope_factors == kNoTensor) return {};
  for (uint32_t i = 0; i < layout.config.rope_dim / 2; ++i) {
    const float factor = fixed[layout.rope_factors + i];
    if (factor > 0 && std::isfinite(factor)) continue;
    return Status(StatusCode::kCorruptFile, formatted("rope_freqs.weight: factor {} is {}, need a positive, finite number", i, factor))
        .in_file(file.source().name()).about("rope_freqs.weight");
  }
  return {};
}

}  // namespace

Status load_fixed_tensors(const GgufFile& file, const ModelLayout& layout, float* fixed) {
  std::vector<std::byte> raw;
  for (const FixedTensor& tensor : layout.fixed) {
    raw.resize(tensor.file_bytes);
    OTR_TRY(file.source().read(tensor.file_offset, raw));
    OTR_TRY(dequantize(tensor.type, raw.data(), fixed + tensor.offset, tensor.elements));
  }
  return check_rope_factors(file, layout, fixed);
}

}  // namespace outrigger
