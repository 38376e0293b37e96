// The table of element types: how many elements a block has, and how many bytes.
#include "src/tensor/dtype.h"

#include <algorithm>
#include <iterator>

#include "src/base/checked.h"

namespace outrigger {
namespace {

// Q8_1 is an activation format that no file holds; 36 bytes is what computes with it, though the Python package lists 40.
constexpr DTypeTraits kTable[] = {
    {DType::kF32, "F32", 1, 4, true},
    {DType::kF16, "F16", 1, 2, true},
    {DType::kQ4_0, "Q4_0", 32, 18, true},
    {DType::kQ4_1, "Q4_1", 32, 20, true},
    {DType::kQ5_0, "Q5_0", 32, 22, true},
    {DType::kQ5_1, "Q5_1", 32, 24, true},
    {DType::kQ8_0, "Q8_0", 32, 34, true},
    {DType::kQ8_1, "Q8_1", 32, 36, false},
    {DType::kQ2_K, "Q2_K", 256, 84, true},
    {DType::kQ3_K, "Q3_K", 256, 110, true},
    {DType::kQ4_K, "Q4_K", 256, 144, true},
    {DType::kQ5_K, "Q5_K", 256, 176, true},
    {DType::kQ6_K, "Q6_K", 256, 210, true},
    {DType::kQ8_K, "Q8_K", 256, 292, false},
    {DType::kIQ2_XXS, "IQ2_XXS", 256, 66, false},
    {DType::kIQ2_XS, "IQ2_XS", 256, 74, false},
    {DType::kIQ3_XXS, "IQ3_XXS", 256, 98, false},
    {DType::kIQ1_S, "IQ1_S", 256, 50, false},
    {DType::kIQ4_NL, "IQ4_NL", 32, 18, true},
    {DType::kIQ3_S, "IQ3_S", 256, 110, false},
    {DType::kIQ2_S, "IQ2_S", 256, 82, false},
    {DType::kIQ4_XS, "IQ4_XS", 256, 136, true},
    {DType::kI8, "I8", 1, 1, false},
    {DType::kI16, "I16", 1, 2, false},
    {DType::kI32, "I32", 1, 4, false},
    {DType::kI64, "I64", 1, 8, false},
    {DType::kF64, "F64", 1, 8, false},
    {DType::kIQ1_M, "IQ1_M", 256, 56, false},
    {DType::kBF16, "BF16", 1, 2, true},
    {DType::kTQ1_0, "TQ1_0", 256, 54, false},
    {DType::kTQ2_0, "TQ2_0", 256, 66, false},
    {DType::kMXFP4, "MXFP4", 32, 17, true},
    {DType::kNVFP4, "NVFP4", 64, 36, false},
    {DType::kQ1_0, "Q1_0", 128, 18, false},
    {DType::kO2, "O2", 64, 20, true},
    {DType::kO3, "O3", 64, 28, true},
    {DType::kO4, "O4", 64, 36, true},
    {DType::kN2, "N2", 64, 20, true},
    {DType::kN3, "N3", 64, 28, true},
    {DType::kN4, "N4", 64, 36, true},
    {DType::kO2_128, "O2_128", 128, 36, true},
    {DType::kO3_128, "O3_128", 128, 52, true},
    {DType::kO4_128, "O4_128", 128, 68, true},
    {DType::kN2_128, "N2_128", 128, 36, true},
    {DType::kN3_128, "N3_128", 128, 52, true},
    {DType::kN4_128, "N4_128", 128, 68, true},
};
static_assert(std::is_sorted(std::begin(kTable), std::end(kTable), [](auto& a, auto& b) { return a.type < b.type; }));

}  // namespace

std::span<const DTypeTraits> all_dtypes() { return kTable; }

const DTypeTraits* find_dtype(uint32_t gguf_value) {
  const auto* found = std::lower_bound(std::begin(kTable), std::end(kTable), gguf_value,
                                       [](const DTypeTraits& entry, uint32_t value) { return static_cast<uint32_t>(entry.type) < value; });
  return found != std::end(kTable) && static_cast<uint32_t>(found->type) == gguf_value ? found : nullptr;
}

const DTypeTraits& traits(DType type) { return *find_dtype(static_cast<uint32_t>(type)); }

std::optional<uint64_t> row_bytes(DType type, uint64_t elements) {
  const DTypeTraits& layout = traits(type);
  if (elements % layout.block_elements != 0) return std::nullopt;
  return (CheckedSize(elements / layout.block_elements) * layout.block_bytes).value();
}

}  // namespace outrigger
