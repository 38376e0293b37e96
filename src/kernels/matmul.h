// Matrix product of packed weights with the activations of one or many tokens.
#ifndef OUTRIGGER_SRC_KERNELS_MATMUL_H_
#define OUTRIGGER_SRC_KERNELS_MATMUL_H_

#include <cstddef>

#include "src/tensor/packed.h"

namespace outrigger {

/// What a product reads and writes. Nothing is owned; dst overlaps nothing else.
struct MatmulArgs {
  PackedKind kind;
  const std::byte* weights;  ///< [rows, columns] in row blocks of 16, as src/tensor/packed.h says; aligned to kPackAlignment
  size_t rows;               ///< real rows: dst of the padding rows is not written
  size_t columns;            ///< for the quantised kinds a multiple of 32
  const float* src;          ///< [tokens, columns] float32 activations, rows src_stride floats apart; read when panel is null
  size_t src_stride;
  /// The same tokens as int8 (quantize_activations) if takes_int8_activations(kind), as bf16 (round_activations) if
  const std::byte* panel;
                           ///< takes_bf16_activations(kind); or null
  float* dst;              ///< dst[t * dst_stride + r]
  size_t dst_stride;
  size_t tokens;
  bool accumulate;  ///< true: dst += product, one float addition after the full sum (residual connections); false: dst = product
  /// Of the matrix in memory, whose first `columns` are multiplied with; whole units of its kind. 0: as many as `columns`
  size_t stored_columns = 0;

  size_t block_bytes() const { return packed_block_bytes(kind, stored_columns == 0 ? columns : stored_columns); }
};

/// dst[t][r] (+)= sum_k weights[r][k] * activations[t][k], for the rows of the row blocks [block_begin, block_end) of 16.
///
/// With a panel of int8, per group of 32 k in order of k, where sums of integers are exact, a code is less its zero point (or looked up),
/// and `half` is elements 0-15 or 16-31:
///   Q8_0, Q4_0, Q5_0, IQ4_NL, IQ4_XS, MXFP4, with w_scale the group's float32 scale:
///       sum = fma(float(sum_k code_w * code_a), w_scale * a_scale, sum)
///   Q4_1, Q5_1, Q4_K, Q5_K: the same, then sum = fma(w_minimum, a_scaled_sum, sum). The minimum is multiplied with the sum of the
///   quantised
///       activations, not of the original ones: so the product is exactly that of the weights with the activations as quantised, and a row
///       of equal weights sees no second error.
///   Q3_K, Q6_K, with w_scale the float16 scale of 256 elements and s the halves' whole-number ones:
///       sum = fma(float(sum_half s_half * sum_k code_w * code_a), w_scale * a_scale, sum)
///   Q2_K: sum = fma(fma(float(as above), w_scale, w_minimum * float(sum_half m_half * sum_k code_a)), a_scale, sum)
/// Every whole number there is below 2^24, so its float is exact, and so are the group scales of IQ4_XS, Q4_K and Q5_K.
/// With a panel of bf16, where a pair is the elements k and k + 1 and an odd width's last element is paired with a zero:
///   BF16:        pairs 0, 2, 4, ... and pairs 1, 3, 5, ... make a sum each: sum = fma(w[k + 1], a[k + 1], sum), then sum = fma(w[k], a[k],
///   sum).
///                The product is the one sum plus the other. That order is that of the processor's dot product of pairs.
/// Without one, with w the weight's value (the bits of dequantize()):
///   F32, F16, BF16:  even and odd k make a sum each, sum = fma(w, src[t][k], sum) in order of k; the product is even + odd
///   quantised kinds: sum = fma(w, src[t][k], sum) for k = 0, 1, 2, ...
/// One formula, so the bits are the same at every instruction level (subnormals aside: a thread team flushes them to zero), whatever the
/// tokens in the call, their place in a tile and the split among threads.
///
/// Any thread; threads take disjoint row blocks. Allocates nothing. Cost: 1 to 3 tokens run at the speed of the weights' memory; from 8
/// tokens on at 55 to 70 % of the processor's int8 rate; float weights at about 90 % of its float32 or bf16 rate from 12 on.
void matmul(const MatmulArgs& args, size_t block_begin, size_t block_end);

/// Row blocks of a matrix of `rows` rows.
inline size_t matmul_blocks(size_t rows) { return (rows + kPackRows - 1) / kPackRows; }

void matmul_ref(const MatmulArgs& args, size_t block_begin, size_t block_end);     ///< the definition
void matmul_avx2(const MatmulArgs& args, size_t block_begin, size_t block_end);    ///< needs SimdLevel::kAvx2
void matmul_avx512(const MatmulArgs& args, size_t block_begin, size_t block_end);  ///< needs SimdLevel::kAvx512

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_MATMUL_H_
