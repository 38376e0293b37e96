// Routing: which experts of a mixture each token takes, and with what weights.
#ifndef OUTRIGGER_SRC_KERNELS_ROUTE_H_
#define OUTRIGGER_SRC_KERNELS_ROUTE_H_

#include <cstddef>
#include <cstdint>

namespace outrigger {

/// What routing reads and writes. Nothing is owned.
struct RouteArgs {
  const float* logits;  ///< [tokens, experts]
  size_t experts;
  size_t used;          ///< of each token, 1 to experts
  bool normalise;       ///< whether the chosen experts' weights are made to sum to 1
  uint32_t* chosen;     ///< [tokens, used]: experts by falling logit; of equal ones the smaller number first
  float* weights;       ///< [tokens, used]: their shares of the softmax over all experts, or, normalised, over the chosen ones
};

/// Routes tokens [token_begin, token_end). A logit that is no number counts as the smallest. Any thread; threads take disjoint tokens.
/// Allocates nothing. One version for all instruction levels: some hundred exponentials a token, and a choice must not depend on the level.
void route(const RouteArgs& args, size_t token_begin, size_t token_end);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_ROUTE_H_
