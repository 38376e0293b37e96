// Picks the largest logits by insertion: `used` is a handful.
#include "src/kernels/route.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace outrigger {
namespace {

float as_number(float logit) { return std::isnan(logit) ? -std::numeric_limits<float>::infinity() : logit; }

void choose(const float* logits, size_t experts, size_t used, uint32_t* chosen) {
  size_t found = 0;
  for (uint32_t expert = 0; expert < experts; ++expert) {
    const float logit = as_number(logits[expert]);
    if (found == used && !(logit > as_number(logits[chosen[used - 1]]))) continue;
    size_t at = found < used ? found++ : used - 1;
    for (; at > 0 && logit > as_number(logits[chosen[at - 1]]); --at) chosen[at] = chosen[at - 1];
    chosen[at] = expert;
  }
}

}  // namespace

void route(const RouteArgs& args, size_t token_begin, size_t token_end) {
  for (size_t t = token_begin; t < token_end; ++t) {
    const float* const logits = args.logits + t * args.experts;
    uint32_t* const chosen = args.chosen + t * args.used;
    float* const weights = args.weights + t * args.used;
    choose(logits, args.experts, args.used, chosen);

    // In double, so that the order of the sum does not show in the float. All logits minus infinity: equal shares.
    const double largest = as_number(logits[chosen[0]]);
    const auto share = [largest](float logit) { return std::isinf(largest) ? 1.0 : std::exp(as_number(logit) - largest); };
    double sum = 0;
    if (args.normalise) {
      for (size_t i = 0; i < args.used; ++i) sum += share(logits[chosen[i]]);
    } else {
      for (size_t expert = 0; expert < args.experts; ++expert) sum += share(logits[expert]);
    }
    for (size_t i = 0; i < args.used; ++i) weights[i] = static_cast<float>(share(logits[chosen[i]]) / sum);
  }
}

}  // namespace outrigger
