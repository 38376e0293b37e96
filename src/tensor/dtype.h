// DType: the element types a model file may hold, as one table.
#ifndef OUTRIGGER_SRC_TENSOR_DTYPE_H_
#define OUTRIGGER_SRC_TENSOR_DTYPE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace outrigger {

/// The values are those of the GGUF format, which has none above some dozens.
enum class DType : uint32_t {
  kF32 = 0, kF16 = 1, kQ4_0 = 2, kQ4_1 = 3, kQ5_0 = 6, kQ5_1 = 7, kQ8_0 = 8, kQ8_1 = 9,
  kQ2_K = 10, kQ3_K = 11, kQ4_K = 12, kQ5_K = 13, kQ6_K = 14, kQ8_K = 15,
  kIQ2_XXS = 16, kIQ2_XS = 17, kIQ3_XXS = 18, kIQ1_S = 19, kIQ4_NL = 20, kIQ3_S = 21, kIQ2_S = 22, kIQ4_XS = 23,
  kI8 = 24, kI16 = 25, kI32 = 26, kI64 = 27, kF64 = 28, kIQ1_M = 29, kBF16 = 30, kTQ1_0 = 34, kTQ2_0 = 35, kMXFP4 = 39,
  kNVFP4 = 40, kQ1_0 = 41,
  // Our own, which only compressed models have: docs/formats.md. The last digit is the bits of a code; ten more have a codebook, a hundred
  // more blocks of 128.
  kO2 = 900'002, kO3 = 900'003, kO4 = 900'004, kN2 = 900'012, kN3 = 900'013, kN4 = 900'014,
  kO2_128 = 900'102, kO3_128 = 900'103, kO4_128 = 900'104, kN2_128 = 900'112, kN3_128 = 900'113, kN4_128 = 900'114,
};

/// How a type is laid out: `block_elements` consecutive elements of a row occupy `block_bytes` bytes.
struct DTypeTraits {
  DType type;
  const char* name;        ///< as GGUF tools print it: "Q4_1"
  uint32_t block_elements;
  uint32_t block_bytes;
  bool can_dequantize;     ///< dequantize() below knows it
};

/// Every type this version knows the layout of, in the order of its value.
std::span<const DTypeTraits> all_dtypes();

/// The traits of a type read from a file; nothing for a value that is not in the table.
const DTypeTraits* find_dtype(uint32_t gguf_value);
/// The traits of a valid DType.
const DTypeTraits& traits(DType type);

/// Bytes of one row of `elements`; nothing if the row is not whole blocks or the product overflows.
std::optional<uint64_t> row_bytes(DType type, uint64_t elements);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_TENSOR_DTYPE_H_
