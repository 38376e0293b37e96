// Factor codes: the largest magnitude gets the largest code, or a little less.
#include "src/compress/factor_codes.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "src/tensor/half.h"

namespace outrigger {
namespace {

constexpr size_t kBlock = 32;
// Of the scale that the largest magnitude asks for: clipping it may leave less error in all the others.
constexpr float kShrinks[] = {1.0f, 0.95f, 0.9f, 0.85f, 0.8f, 0.75f, 0.7f};

float as_half(float value) { return f16_to_float(float_to_f16(value)); }

struct Codes {
  float scale = 0;
  int codes[kBlock] = {};
  float error = std::numeric_limits<float>::infinity();
};

Codes codes_at(const float* values, const float* weights, float scale, int least, int most) {
  Codes result;
  result.scale = scale = as_half(scale);
  result.error = 0;
  for (size_t i = 0; i < kBlock; ++i) {
    const int code = scale == 0 ? 0 : std::clamp(static_cast<int>(std::nearbyint(values[i] / scale)), least, most);
    const float left = values[i] - scale * static_cast<float>(code);
    result.codes[i] = code;
    result.error += (weights != nullptr ? weights[i] : 1) * left * left;
  }
  return result;
}

// The side that has the extra code is that of the largest magnitude: a negative scale turns it round.
Codes best_codes(const float* values, const float* weights, int bits) {
  const float* const largest = std::max_element(values, values + kBlock, [](float a, float b) { return std::abs(a) < std::abs(b); });
  if (bits == 8) return codes_at(values, weights, std::abs(*largest) / 127, -127, 127);
  Codes best;
  for (const float shrink : kShrinks) {
    const Codes codes = codes_at(values, weights, *largest / -8 * shrink, -8, 7);
    if (codes.error < best.error) best = codes;
  }
  return best;
}

// As the file has it: the scale, then codes; of 4 bits k and k + 16 in one byte, with 8 added.
void store(const Codes& block, int bits, std::byte* dst) {
  const uint16_t scale = float_to_f16(block.scale);
  std::memcpy(dst, &scale, 2);
  for (size_t i = 0; i < (bits == 8 ? kBlock : kBlock / 2); ++i) {
    const int code = bits == 8 ? block.codes[i] : (block.codes[i] + 8) | (block.codes[i + kBlock / 2] + 8) << 4;
    dst[2 + i] = static_cast<std::byte>(code);
  }
}

}  // namespace

DType factor_type(int bits) { return bits == 4 ? DType::kQ4_0 : DType::kQ8_0; }

LeasedVector<std::byte> encode_factors(std::span<const float> values, size_t columns, int bits, std::span<const float> column_weights) {
  const size_t block_bytes = traits(factor_type(bits)).block_bytes;
  LeasedVector<std::byte> bytes(values.size() / kBlock * block_bytes, MemoryUse::kBranches);
  for (size_t i = 0; i < values.size(); i += kBlock) {
    const float* const weights = column_weights.empty() ? nullptr : column_weights.data() + i % columns;
    store(best_codes(values.data() + i, weights, bits), bits, bytes.data() + i / kBlock * block_bytes);
  }
  return bytes;
}

}  // namespace outrigger
