// bf16 activations: tokens' vectors rounded to bf16, as the kernels of bf16 weights read them.
#ifndef OUTRIGGER_SRC_KERNELS_BF16_ACTIVATIONS_H_
#define OUTRIGGER_SRC_KERNELS_BF16_ACTIVATIONS_H_

#include <cstddef>
#include <cstdint>

namespace outrigger {

// The panel: a row of bf16 for each token, in order of k, filled up with zeros to whole cache lines.
inline constexpr size_t kBf16PerLine = 32;

/// Pairs of elements in a row of `width`; the last one of an odd width is completed by a zero.
inline size_t bf16_pairs(size_t width) { return (width + 1) / 2; }
inline size_t bf16_row_bytes(size_t width) { return (width + kBf16PerLine - 1) / kBf16PerLine * kBf16PerLine * 2; }
/// Bytes of a panel for `tokens` tokens of `width` elements; a multiple of 64.
inline uint64_t bf16_panel_bytes(size_t tokens, size_t width) { return uint64_t{tokens} * bf16_row_bytes(width); }

/// What the rounding reads and writes. Nothing is owned.
struct Bf16Args {
  const float* src;  ///< [tokens, width], rows src_stride floats apart
  size_t src_stride;
  std::byte* panel;  ///< bf16_panel_bytes(tokens, width) bytes, 4-byte aligned; 64 is faster
  size_t width;
};

/// Rounds tokens [token_begin, token_end) into their rows: to nearest, ties to even; beyond the largest bf16 an infinity; subnormals become
/// zeros of their sign, as in the processor's own conversion; a NaN stays one.
/// Any thread; threads may take disjoint token ranges. Allocates nothing. The same bits at every instruction level.
void round_activations(const Bf16Args& args, size_t token_begin, size_t token_end);

void round_activations_ref(const Bf16Args& args, size_t token_begin, size_t token_end);     ///< the definition
void round_activations_avx2(const Bf16Args& args, size_t token_begin, size_t token_end);    ///< needs SimdLevel::kAvx2
void round_activations_avx512(const Bf16Args& args, size_t token_begin, size_t token_end);  ///< needs SimdLevel::kAvx512

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_BF16_ACTIVATIONS_H_
