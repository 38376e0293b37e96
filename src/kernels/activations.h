// Int8 activations: tokens' vectors as codes with a scale per 32 elements, in the order in which the matrix kernels read them.
#ifndef OUTRIGGER_SRC_KERNELS_ACTIVATIONS_H_
#define OUTRIGGER_SRC_KERNELS_ACTIVATIONS_H_

#include <cstddef>
#include <cstdint>

namespace outrigger {

/// Elements that share a scale: the group of the weight formats, so that a group's dot product stays in integers.
inline constexpr size_t kGroup = 32;
/// Tokens the matrix kernels take at once: 8 sums and the 8 registers of a decoded weight group fill half of 32 registers.
inline constexpr size_t kTokenTile = 8;

// The panel: tiles of kTokenTile tokens (the last one has the n that remain, and no padding). A tile is, for each group in order of k,
//   int8  codes[n][32]
//   float scale[n]        amax / 127; a code stands for code * scale
//   float scaled_sum[n]   scale * (sum of the 32 codes): what a weight's minimum or zero point is multiplied with
//   int32 negative_sum[n] -(sum of the 32 codes)
//   int16 negative_halves[n][2]  -(sum of codes 0-15), -(sum of codes 16-31), for weights with scales of 16 elements
inline constexpr size_t kTokenGroupBytes = kGroup + 4 * 4;

/// Bytes of a panel for `tokens` tokens of `width` elements, a multiple of 32; a multiple of 64.
uint64_t activation_panel_bytes(size_t tokens, size_t width);

/// Where the tile that begins at `token`, a multiple of kTokenTile, starts in the panel.
inline size_t activation_tile_offset(size_t token, size_t width) { return token * (width / kGroup) * kTokenGroupBytes; }

/// What the quantisation reads and writes. Nothing is owned.
struct QuantizeArgs {
  const float* src;  ///< [tokens, width], rows src_stride floats apart
  size_t src_stride;
  std::byte* panel;  ///< activation_panel_bytes(tokens, width) bytes, 4-byte aligned; 64 is faster
  size_t tokens;     ///< in the whole panel
  size_t width;      ///< a multiple of 32
};

/// Quantises tokens [token_begin, token_end) into their places. Per group, with amax = max |x|: code = x * (127 / amax) rounded to the
/// nearest integer, ties to even, in -127..127; scale = amax / 127. A group whose amax is below 2^-90 is all zeros, scale included; one
/// that holds an infinity or a NaN gets a scale of NaN, so that the products that use it are NaN too.
/// Any thread; threads may take disjoint token ranges. Allocates nothing. A token's bits depend on that token alone and are the same at
/// every instruction level. Cost: about 0.06 ns per element and core with AVX-512.
void quantize_activations(const QuantizeArgs& args, size_t token_begin, size_t token_end);

/// What rounding lost: remainder[t][k] = src[t][k] - code * scale, rows src_stride floats apart; may be args.src. Quantised in its turn, it
/// makes a second panel, and the sum of both products is one with activations of about 15 bits.
/// Precondition: the tokens were quantised into args.panel. Any thread; allocates nothing. The same bits at every instruction level.
void quantization_remainder(const QuantizeArgs& args, size_t token_begin, size_t token_end, float* remainder);

void quantize_activations_ref(const QuantizeArgs& args, size_t token_begin, size_t token_end);     ///< the definition
void quantize_activations_avx2(const QuantizeArgs& args, size_t token_begin, size_t token_end);    ///< needs SimdLevel::kAvx2
void quantize_activations_avx512(const QuantizeArgs& args, size_t token_begin, size_t token_end);  ///< needs SimdLevel::kAvx512

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_ACTIVATIONS_H_
