// Dequantisation of a row: picks the format's block function and repeats it.
#include "src/tensor/dequantize.h"

#include "src/base/formatted.h"
#include "src/tensor/dequantize_blocks.h"

namespace outrigger {
namespace {

using BlockFn = void (*)(const uint8_t* block, float* dst);

BlockFn block_function(DType type) {
  switch (type) {
    case DType::kF32:
      return [](const uint8_t* bytes, float* dst) { std::memcpy(dst, bytes, sizeof *dst); };
    case DType::kF16:
      return [](const uint8_t* bytes, float* dst) { *dst = f16_at(bytes); };
    case DType::kBF16:
      return [](const uint8_t* bytes, float* dst) {
        uint16_t bits;
        std::memcpy(&bits, bytes, sizeof bits);
        *dst = bf16_to_float(bits);
      };
    case DType::kQ4_0:
      return dequantize_q4_0;
    case DType::kQ4_1:
      return dequantize_q4_1;
    case DType::kQ5_0:
      return dequantize_q5_0;
    case DType::kQ5_1:
      return dequantize_q5_1;
    case DType::kQ8_0:
      return dequantize_q8_0;
    case DType::kQ2_K:
      return dequantize_q2_k;
    case DType::kQ3_K:
      return dequantize_q3_k;
    case DType::kQ4_K:
      return dequantize_q4_k;
    case DType::kQ5_K:
      return dequantize_q5_k;
    case DType::kQ6_K:
      return dequantize_q6_k;
    case DType::kIQ4_NL:
      return dequantize_iq4_nl;
    case DType::kIQ4_XS:
      return dequantize_iq4_xs;
    case DType::kMXFP4:
      return dequantize_mxfp4;
    case DType::kO2:
      return dequantize_o2;
    case DType::kO3:
      return dequantize_o3;
    case DType::kO4:
      return dequantize_o4;
    case DType::kN2:
      return dequantize_n2;
    case DType::kN3:
      return dequantize_n3;
    case DType::kN4:
      return dequantize_n4;
    case DType::kO2_128:
      return dequantize_o2_128;
    case DType::kO3_128:
      return dequantize_o3_128;
    case DType::kO4_128:
      return dequantize_o4_128;
    case DType::kN2_128:
      return dequantize_n2_128;
    case DType::kN3_128:
      return dequantize_n3_128;
    case DType::kN4_128:
      return dequantize_n4_128;
    default:
      return nullptr;
  }
}

}  // namespace

Status dequantize(DType type, const std::byte* src, float* dst, size_t elements) {
  const BlockFn block = block_function(type);
  const DTypeTraits& layout = traits(type);
  if (block == nullptr) return {StatusCode::kUnsupported, formatted("weights of type {} cannot be converted to float32", layout.name)};
  const auto* bytes = reinterpret_cast<const uint8_t*>(src);
  for (size_t i = 0; i < elements; i += layout.block_elements, bytes += layout.block_bytes) block(bytes, dst + i);
  return {};
}

}  // namespace outrigger
