// What gradients become on their way back through norms and activations.
#ifndef OUTRIGGER_SRC_TRAINING_ELEMENTWISE_BACKWARD_H_
#define OUTRIGGER_SRC_TRAINING_ELEMENTWISE_BACKWARD_H_

#include <cstddef>

#include "src/base/thread_team.h"

namespace outrigger {

/// Of y = weight * x / sqrt(mean(x^2) + epsilon), for rows of `width`: groups of `row_groups` rows that lie one behind the other, groups
/// `stride` floats apart in x and in the gradients.
struct RmsNormBackwardArgs {
  const float* x;
  const float* weight;      ///< [width]
  const float* y_gradient;  ///< may be x_gradient if it does not add
  float* x_gradient;
  size_t groups, row_groups, stride, width;
  float epsilon;
  bool adds;  ///< to x_gradient, else it is set
};
void rms_norm_backward(const RmsNormBackwardArgs& args, ThreadTeam& team);
/// weight_gradient [width] = what the gradients of y say of the weights; x_gradient is not looked at. Throws std::bad_alloc.
void rms_norm_weight_backward(const RmsNormBackwardArgs& args, float* weight_gradient, ThreadTeam& team);

/// Of y = silu(gate) * up. The gradient of gate takes the place of y's.
struct SiluMulBackwardArgs {
  const float* gate;
  const float* up;
  float* y_gradient;
  float* up_gradient;
  size_t count;
};
void silu_mul_backward(const SiluMulBackwardArgs& args, ThreadTeam& team);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_TRAINING_ELEMENTWISE_BACKWARD_H_
