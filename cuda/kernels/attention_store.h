// What the cache of a type holds for attention: how a query is kept in shared memory, scores of two neighbouring positions, values added.
#ifndef OUTRIGGER_CUDA_KERNELS_ATTENTION_STORE_H_
#define OUTRIGGER_CUDA_KERNELS_ATTENTION_STORE_H_

#include "cuda/kernels/device_code.h"
#include "cuda/kernels/warp.h"
#include "src/kernels/attention_rows.h"

// A Store has
//   kType                           the cache's
//   kWidth                          elements of a position's value that a thread takes at once
//   Store(keys, head_dim)           a head's blocks of keys
//   load_query(q, scale, ...)       a warp keeps a query, word i at dst + i * stride, and returns its scale
//   score(position, ...)            of kRows queries, side by side in words kStride apart, at two positions from an even one on
//   load(values, position, d)       kWidth elements of a value as they are, in the blocks at `values`
//   add(weight, loaded, sums)       sums += weight * value, one rounding each
namespace outrigger::cuda {

/// Loads that are under way at once.
inline constexpr uint32_t kInFlight = 8;

template <typename Element, uint32_t kElements>
struct alignas(sizeof(Element) * kElements < 16 ? sizeof(Element) * kElements : 16) Several {
  Element values[kElements];
};

OTR_DEVICE float value_of(uint16_t half) { return half_to_float(half); }
OTR_DEVICE float value_of(float x) { return x; }

/// float16 and float32: a query's words are its elements times the scale. kElements is 2, or 1 for an odd head_dim.
template <typename Element, uint32_t kElements>
class FloatStore {
 public:
  using Word = float;
  using Loaded = Several<Element, kElements>;
  static constexpr uint32_t kWidth = kElements;
  static constexpr KvType kType = sizeof(Element) == sizeof(float) ? KvType::kF32 : KvType::kF16;

  OTR_DEVICE FloatStore(const std::byte* keys, uint32_t head_dim) : keys_(reinterpret_cast<const Element*>(keys)), head_dim_(head_dim) {}

  OTR_DEVICE static float load_query(const float* q, float scale, uint32_t head_dim, Word* dst, uint32_t stride) {
    for (uint32_t d = thread_index() % kWarp; d < head_dim; d += kWarp) dst[d * stride] = q[d] * scale;
    return 1;
  }

  template <uint32_t kRows, uint32_t kStride>
  OTR_DEVICE void score(size_t position, const Word* queries, const float* /*scales*/, float (&scores)[kRows][2]) const {
    const Element* const keys = keys_ + key_index(position, 0, head_dim_);
    constexpr uint32_t kLoads = kRows <= 4 ? 2 * kInFlight : kInFlight;  // few rows' blocks are few, and wait for memory
    uint32_t d = 0;
    for (; d + kLoads <= head_dim_; d += kLoads) score_some<kLoads, kRows, kStride>(keys, queries, d, scores);
    for (; d < head_dim_; ++d) score_some<1, kRows, kStride>(keys, queries, d, scores);
  }

  OTR_DEVICE Loaded load(const std::byte* values, size_t position, uint32_t d) const {
    return *reinterpret_cast<const Loaded*>(values + (position * head_dim_ + d) * sizeof(Element));
  }
  OTR_DEVICE static void add(float weight, const Loaded& loaded, float (&sums)[kWidth]) {
    OTR_UNROLL
    for (uint32_t i = 0; i < kWidth; ++i) sums[i] = fmaf(weight, value_of(loaded.values[i]), sums[i]);
  }

 private:
  template <uint32_t kCount, uint32_t kRows, uint32_t kStride>
  OTR_DEVICE static void score_some(const Element* keys, const Word* queries, uint32_t d, float (&scores)[kRows][2]) {
    Several<Element, 2> pairs[kCount];
    OTR_UNROLL
    for (uint32_t i = 0; i < kCount; ++i) pairs[i] = *reinterpret_cast<const Several<Element, 2>*>(keys + (d + i) * kKvInterleave);
    OTR_UNROLL
    for (uint32_t i = 0; i < kCount; ++i) {
      const float first = value_of(pairs[i].values[0]), second = value_of(pairs[i].values[1]);
      const auto query = *reinterpret_cast<const Several<float, kRows>*>(queries + (d + i) * kStride);
      OTR_UNROLL
      for (uint32_t r = 0; r < kRows; ++r) {
        scores[r][0] = fmaf(query.values[r], first, scores[r][0]);
        scores[r][1] = fmaf(query.values[r], second, scores[r][1]);
      }
    }
  }

  const Element* keys_;
  uint32_t head_dim_;
};

/// q8_0: a query's words are two 16-bit codes each, as src/kernels has them.
class CodeStore {
 public:
  using Word = uint32_t;
  struct Loaded {
    uint16_t codes, scale;
  };
  static constexpr uint32_t kWidth = 2;
  static constexpr KvType kType = KvType::kQ8_0;

  OTR_DEVICE CodeStore(const std::byte* keys, uint32_t head_dim) : keys_(keys), head_dim_(head_dim) {}

  OTR_DEVICE static float load_query(const float* q, float scale, uint32_t head_dim, Word* dst, uint32_t stride) {
    uint32_t most = 0;
    for (uint32_t d = thread_index() % kWarp; d < head_dim; d += kWarp) most = larger(most, as_bits(q[d] * scale) & 0x7fffffff);
    most = warp_largest_magnitude(as_float(most));
    const float largest = as_float(most), inverse = most < kInfinityBits && largest >= kLeastScaled ? kQueryCodes / largest : 0;
    for (uint32_t pair = thread_index() % kWarp; pair < head_dim / 2; pair += kWarp) {
      const uint32_t first = code_of(q[2 * pair], scale, inverse), second = code_of(q[2 * pair + 1], scale, inverse);
      dst[pair * stride] = (first & 0xffff) | second << 16;
    }
    return most < kInfinityBits ? largest / kQueryCodes : as_float(0x7fc00000);
  }

  template <uint32_t kRows, uint32_t kStride>
  OTR_DEVICE void score(size_t position, const Word* queries, const float* scales, float (&scores)[kRows][2]) const {
    const std::byte* const block = keys_ + position / kKvInterleave * q8_block_bytes(head_dim_);
    for (uint32_t group = 0; group < head_dim_; group += kKvGroup) {
      constexpr uint32_t kPairs = kKvGroup / 2;
      uint32_t codes[kPairs];
      OTR_UNROLL
      for (uint32_t i = 0; i < kPairs; ++i)
        codes[i] = *reinterpret_cast<const uint32_t*>(block + q8_key_offset(position, group + 2 * i, head_dim_));
      const auto halves = *reinterpret_cast<const Several<uint16_t, 2>*>(block + q8_scale_offset(position, group));
      int32_t dots[kRows][2] = {};
      OTR_UNROLL
      for (uint32_t i = 0; i < kPairs; ++i) {
        const auto query = *reinterpret_cast<const Several<uint32_t, kRows>*>(queries + (group / 2 + i) * kStride);
        OTR_UNROLL
        for (uint32_t r = 0; r < kRows; ++r) {
          dots[r][0] = dot_low_bytes(query.values[r], codes[i], dots[r][0]);
          dots[r][1] = dot_high_bytes(query.values[r], codes[i], dots[r][1]);
        }
      }
      OTR_UNROLL
      for (uint32_t r = 0; r < kRows; ++r) {
        OTR_UNROLL
        for (uint32_t i = 0; i < 2; ++i) scores[r][i] = fmaf(static_cast<float>(dots[r][i]), half_to_float(halves.values[i]), scores[r][i]);
      }
    }
    OTR_UNROLL
    for (uint32_t r = 0; r < kRows; ++r) scores[r][0] *= scales[r], scores[r][1] *= scales[r];
  }

  OTR_DEVICE Loaded load(const std::byte* values, size_t position, uint32_t d) const {
    const std::byte* const block = values + position / kKvInterleave * q8_block_bytes(head_dim_);
    return {*reinterpret_cast<const uint16_t*>(block + q8_value_offset(position, d, head_dim_)),
            *reinterpret_cast<const uint16_t*>(block + q8_scale_offset(position, d))};
  }
  OTR_DEVICE static void add(float weight, const Loaded& loaded, float (&sums)[kWidth]) {
    const float scaled = weight * half_to_float(loaded.scale);
    sums[0] = fmaf(scaled, static_cast<float>(static_cast<int8_t>(loaded.codes & 255)), sums[0]);
    sums[1] = fmaf(scaled, static_cast<float>(static_cast<int8_t>(loaded.codes >> 8)), sums[1]);
  }

 private:
  OTR_DEVICE static uint32_t larger(uint32_t a, uint32_t b) { return a < b ? b : a; }
  OTR_DEVICE static uint32_t code_of(float x, float scale, float inverse) {
    return inverse == 0 ? 0 : static_cast<uint32_t>(static_cast<int32_t>(nearbyintf(x * scale * inverse)));
  }

  const std::byte* keys_;
  uint32_t head_dim_;
};

}  // namespace outrigger::cuda

#endif  // OUTRIGGER_CUDA_KERNELS_ATTENTION_STORE_H_
