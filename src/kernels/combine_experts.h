// Adds the results of a token's experts to its residual.
#ifndef OUTRIGGER_SRC_KERNELS_COMBINE_EXPERTS_H_
#define OUTRIGGER_SRC_KERNELS_COMBINE_EXPERTS_H_

#include <cstddef>
#include <cstdint>

namespace outrigger {

/// What is added where. Nothing is owned.
struct CombineExpertsArgs {
  const float* results;       ///< [rows, width]: an expert's result for a token each
  const uint32_t* row_of;     ///< [tokens, used]: where in `results`, in the order of `weights`
  const float* weights;       ///< [tokens, used]
  size_t used;
  const float* shared;        ///< [tokens, width]: of the expert that every token passes; null: there is none
  const float* input;         ///< [tokens, width]: what the experts were given; read with `shared`
  const float* shared_gate;   ///< [width]
  float* dst;                 ///< [tokens, width]
  size_t width;
};

/// dst[t] += sum_i weights[t][i] * results[row_of[t][i]], summed in the order of i and then added at once; and, where there is a shared
/// expert, plus sigmoid(input[t] . shared_gate) * shared[t] in that sum. So a token's bits depend on that token alone, whatever the order
/// in which its experts were computed. Tokens [token_begin, token_end). Any thread; threads take disjoint tokens. Allocates nothing. One
/// version for all instruction levels: `used` multiplications beside the experts' thousands.
void combine_experts(const CombineExpertsArgs& args, size_t token_begin, size_t token_end);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_COMBINE_EXPERTS_H_
