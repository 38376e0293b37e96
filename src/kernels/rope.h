// RoPE: turns pairs of a head's elements by angles that grow with the token's position.
#ifndef OUTRIGGER_SRC_KERNELS_ROPE_H_
#define OUTRIGGER_SRC_KERNELS_ROPE_H_

#include <cstddef>
#include <cstdint>

namespace outrigger {

/// Which elements of a head make pair i of rotary_dim / 2.
enum class RopeStyle : uint8_t {
  kInterleaved,  ///< 2i and 2i + 1: llama weights in GGUF, whose rows were permuted for it
  kHalves,       ///< i and i + rotary_dim / 2: qwen, and llama weights as Hugging Face stores them
};

/// What RoPE turns, in place. Nothing is owned.
struct RopeArgs {
  float* x;  ///< [tokens, heads, head_dim], tokens `stride` floats apart
  size_t stride;
  size_t tokens;
  size_t heads;
  size_t head_dim;
  size_t rotary_dim;     ///< even, at most head_dim: the elements beyond it stay as they are
  const float* cos_sin;  ///< [tokens, rotary_dim / 2, 2]: cosine and sine of each pair's angle
  RopeStyle style;
};

/// With (a, b) a pair and (c, s) its cosine and sine: a' = fma(a, c, -(b * s)), b' = fma(b, c, a * s).
/// Any thread; threads may take disjoint tokens or heads by offsetting x. Allocates nothing. The bits are the same at every level.
/// @source Su et al. 2021 (arXiv 2104.09864), section 3.4.2
void rope(const RopeArgs& args);

void rope_ref(const RopeArgs& args);     ///< the definition
void rope_avx2(const RopeArgs& args);    ///< needs SimdLevel::kAvx2
void rope_avx512(const RopeArgs& args);  ///< needs SimdLevel::kAvx512

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_ROPE_H_
